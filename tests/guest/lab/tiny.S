// Kernels of a few instructions, entered in long mode with interrupts off, for what a stock kernel does not do on
// purpose. The one of POWER_OFF, SPIN, HALT, FLOOD, TRIPLE_FAULT, RESET, AUTO_EOI, CRASH_NOTICE that is defined
// says which.

.globl _start
_start:

#ifdef AUTO_EOI  // three interrupts that it does not end, since it told the hypervisor to; then off
  lea stack_end(%rip), %rsp
  lea handler(%rip), %rax
  lea gates(%rip), %rdi
  mov %ax, 0xf30(%rdi)
  movw $0x10, 0xf32(%rdi)    // the code segment
  movw $0x8e00, 0xf34(%rdi)  // an interrupt gate
  shr $16, %rax
  mov %ax, 0xf36(%rdi)
  lidt table_of_gates(%rip)
  mov $0x1b, %ecx  // IA32_APIC_BASE: x2APIC
  rdmsr
  or $0x400, %eax
  wrmsr
  xor %edx, %edx
  mov $0x80f, %ecx  // the spurious interrupt's vector, and the APIC's switch
  mov $0x1ff, %eax
  wrmsr
  mov $0x40000092, %ecx  // SINT2: Auto-EOI, as Linux 4.11 has it
  mov $0x200f3, %eax
  wrmsr
  xor %ebx, %ebx
  sti
4:
  lea 1(%rbx), %esi
  mov $0x83f, %ecx  // to itself
  mov $0xf3, %eax
  wrmsr
5:
  pause
  cmp %esi, %ebx
  jne 5b
  cmp $3, %ebx
  jne 4b
#endif

#ifdef CRASH_NOTICE  // "notify", without a message: as Linux 4.15 where a process meets a trap. It goes on, and off
  mov $0x40000105, %ecx
  xor %eax, %eax
  mov $0x80000000, %edx
  wrmsr
#endif

#if defined POWER_OFF || defined AUTO_EOI || defined CRASH_NOTICE  // ACPI's sleep control register: SLP_EN and the type of \_S5, 5
  mov $0x600, %dx
  mov $0x34, %al
  out %al, %dx
#endif

#ifdef FLOOD  // as fast as it can, without asking whether the line is ready
  mov $0x3f8, %dx
  mov $'x', %al
1:
  out %al, %dx
  jmp 1b
#endif

#ifdef TRIPLE_FAULT  // an exception, and no table of handlers
  lidt no_handlers(%rip)
  ud2
no_handlers:
  .fill 10, 1, 0
#endif

#ifdef RESET  // the keyboard controller's pulse
  mov $0xfe, %al
  out %al, $0x64
#endif

#ifdef SPIN
2:
  jmp 2b
#endif

3:
  hlt
  jmp 3b

#ifdef AUTO_EOI
handler:
  inc %ebx
  iretq
table_of_gates:
  .word gates_end - gates - 1
  .quad gates
  .balign 16
gates:
  .fill 4096, 1, 0
gates_end:
  .fill 4096, 1, 0
stack_end:
#endif
