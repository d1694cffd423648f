// The guest's part of its BIOS, as it lies at F000:E000: everything in it counts from bios_stub. A header of offsets,
// which low_memory.cpp reads, then the code, of 16 bits.

#define STUB_OFFSET 0xe000
#define OFFSET(label) (label - bios_stub + STUB_OFFSET)

#define MASTER_COMMAND 0x20  // Intel 8259A, "Initialization Command Words"
#define MASTER_DATA 0x21
#define SLAVE_COMMAND 0xa0
#define SLAVE_DATA 0xa1
#define END_OF_INTERRUPT 0x20
#define TIMER_CHANNEL_0 0x40  // Intel 8254, "Control Word Format"
#define TIMER_CONTROL 0x43

#define BIOS_PORT 0xea  // call.h
#define DATA_SEGMENT 0x40
#define TICKS 0x6c
#define MIDNIGHT 0x70
#define TICKS_PER_DAY 0x1800b0

  .section .rodata.bios_stub, "a", @progbits
  .globl bios_stub, bios_stub_end
  .code16

bios_stub:
  .word OFFSET(power_on)
  .word OFFSET(nothing)
  .word OFFSET(timer)
  .word OFFSET(interrupt)
  .word OFFSET(slave_interrupt)
  .word OFFSET(reset)
  .word OFFSET(services)
  .word service_bytes

power_on:
  cli
  cld
  xor %ax, %ax
  mov %ax, %ds
  mov %ax, %es
  mov %ax, %ss
  mov $0x7c00, %sp
  mov $0x11, %al  // ICW1: edges, two controllers, ICW4 follows
  out %al, $MASTER_COMMAND
  out %al, $SLAVE_COMMAND
  mov $0x08, %al  // ICW2: vectors, as a PC has them
  out %al, $MASTER_DATA
  mov $0x70, %al
  out %al, $SLAVE_DATA
  mov $0x04, %al  // ICW3: the second one is at line 2
  out %al, $MASTER_DATA
  mov $0x02, %al
  out %al, $SLAVE_DATA
  mov $0x01, %al  // ICW4: 8086 mode
  out %al, $MASTER_DATA
  out %al, $SLAVE_DATA
  mov $0xfe, %al  // the timer's line alone is let through
  out %al, $MASTER_DATA
  mov $0xff, %al
  out %al, $SLAVE_DATA
  mov $0x34, %al  // channel 0, low byte then high byte, mode 2: 65536 counts a tick
  out %al, $TIMER_CONTROL
  xor %al, %al
  out %al, $TIMER_CHANNEL_0
  out %al, $TIMER_CHANNEL_0
  xor %ax, %ax
  mov $0x80, %dx
  sti
  ljmp $0, $0x7c00

// Vectors that nobody serves.
nothing:
  iret

// IRQ 0, INT 08h: counts, and lets whoever hooked INT 1Ch know.
timer:
  push %ax
  push %dx
  push %ds
  mov $DATA_SEGMENT, %ax
  mov %ax, %ds
  incl TICKS
  cmpl $TICKS_PER_DAY, TICKS
  jb 1f
  movl $0, TICKS
  movb $1, MIDNIGHT
1:
  int $0x1c
  cli
  mov $END_OF_INTERRUPT, %al
  out %al, $MASTER_COMMAND
  pop %ds
  pop %dx
  pop %ax
  iret

slave_interrupt:
  push %ax
  mov $END_OF_INTERRUPT, %al
  out %al, $SLAVE_COMMAND
  jmp 2f
interrupt:
  push %ax
  mov $END_OF_INTERRUPT, %al
2:
  out %al, $MASTER_COMMAND
  pop %ax
  iret

// Where F000:FFF0 leads: pulses the processor's reset line.
reset:
  mov $0xfe, %al
  out %al, $0x64
3:
  hlt
  jmp 3b

// An entry for each vector from 10h to 1Ah. Whoever answers finds the vector on top of the stack, and below it what
// the interrupt saved. Carry set: the call is not over yet.
  .balign 8
services:
  .set vector, 0x10
  .rept 0x1a - 0x10 + 1
0:
  pushw $vector
  jmp ask
  .balign 8
  .set vector, vector + 1
  .endr
services_end:
  .set service_bytes, (services_end - services) / (0x1a - 0x10 + 1)

wait:
  sti
  nop
  cli
ask:
  out %al, $BIOS_PORT
  jc wait
  add $2, %sp
  iret

bios_stub_end:
  .section .note.GNU-stack, "", @progbits
