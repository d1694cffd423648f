// Kernels of a few instructions, entered in long mode with interrupts off, for what a stock kernel does not do on
// purpose. The one of POWER_OFF, SPIN, HALT, FLOOD, TRIPLE_FAULT, RESET that is defined says which.

.globl _start
_start:

#ifdef POWER_OFF  // ACPI's sleep control register: SLP_EN and the type of \_S5, 5
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
