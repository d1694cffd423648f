#!/usr/bin/env python3
"""Keeps two machines of KVM with a processor each that never runs, until its input ends.

With them there, Linux does not change its own code whenever another machine of KVM begins or ends (the static keys
preempt_notifier_key and apic_sw_disabled; kvm_has_noapic_vcpu of one without interrupt controllers). QEMU, emulating several processors, may miss a change of code that another
processor is just running into; it then meets the breakpoint of the change for ever.
"""
import fcntl
import os
import sys

# linux/kvm.h
KVM_CREATE_VM, KVM_CREATE_VCPU, KVM_CREATE_IRQCHIP = 0xAE01, 0xAE41, 0xAE60


def main():
    kvm = os.open("/dev/kvm", os.O_RDWR)
    usual, bare = fcntl.ioctl(kvm, KVM_CREATE_VM, 0), fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
    fcntl.ioctl(usual, KVM_CREATE_IRQCHIP, 0)
    for machine in usual, bare:
        fcntl.ioctl(machine, KVM_CREATE_VCPU, 0)
    print("held", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
