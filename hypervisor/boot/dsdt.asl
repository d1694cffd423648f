// What the machine has that cannot be found by looking: compiled by iasl, put behind the FADT by
// acpi.cpp. The numbers are those of platform.h; acpi_test.cpp compares them.
DefinitionBlock ("dsdt.aml", "DSDT", 2, "VHDKIT", "VHD-RUN ", 1)
{
    // Power off.
    Name (\_S5, Package () { 5, 5, 0, 0 })

    Scope (\_SB)
    {
        // Guests look for VMBus devices' memory in the ranges of the bus's ancestors.
        Device (VMOD)
        {
            Name (_HID, "ACPI0004")
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
                    0x0, 0xF8000000, 0xFBFFFFFF, 0x0, 0x04000000)
                QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
                    0x0, 0x7FE0000000, 0x7FFFFFFFFF, 0x0, 0x20000000)
            })

            Device (VMBS)
            {
                Name (_HID, "VMBus")
                Name (_UID, 0)
                // Linux gives up where this is missing. Its interrupts come from the SynIC, so that
                // there is nothing to name.
                Name (_CRS, ResourceTemplate () {})
            }
        }

        Device (COM1)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 1)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x03F8, 0x03F8, 0x01, 0x08)
                IRQNoFlags () { 4 }
            })
        }
    }
}
