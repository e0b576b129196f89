"""What is tested with what: tables, and texts that people write."""
# SPDX-License-Identifier: GPL-2.0-or-later

import gzip

# Devices that are named: layout, addresses, and what the plan must be: for each physical
# SMMU (by the end of its name) the devices, in order
PLANS = [
    ("grace", "0008:01:00.0 0009:01:00.0 0018:01:00.0 0019:01:00.0",
     {"0000000011000000": ["0008:01:00.0"], "0000000012000000": ["0009:01:00.0"],
      "0000100011000000": ["0018:01:00.0"], "0000100012000000": ["0019:01:00.0"]}),
    ("grace", "0000:03:00.1 0019:01:00.0 0004:01:00.0 0000:03:00.0",
     {"0000000005000000": ["0000:03:00.0", "0000:03:00.1"],
      "0000000015000000": ["0004:01:00.0"], "0000100012000000": ["0019:01:00.0"]}),
    ("grace-two", "0008:01:00.0 0008:02:00.0 0009:01:00.0 0009:06:00.0",
     {"0000000011000000": ["0008:01:00.0", "0008:02:00.0"],
      "0000000012000000": ["0009:01:00.0", "0009:06:00.0"]}),
    ("kunpeng", "75:00.0 79:00.0 7d:00.0 7d:00.1 b5:00.0 b9:00.0 05:00.0",
     {"0000000100000000": ["0000:05:00.0"], "0000000148000000": ["0000:75:00.0", "0000:79:00.0"],
      "0000000140000000": ["0000:7d:00.0", "0000:7d:00.1"],
      "0000200148000000": ["0000:b5:00.0", "0000:b9:00.0"]}),
    ("ampere", "0002:01:00.0 0003:01:00.0 0003:01:00.1 000d:01:00.0",
     {"00003bffe0000000": ["0002:01:00.0"], "00003fffe0000000": ["0003:01:00.0", "0003:01:00.1"],
      "000037ffe0000000": ["000d:01:00.0"]}),
    ("laptop", "02:00.0", {}),
    ("group", "01:00.0 01:00.1 02:00.0", {"0000000040000000": ["0000:02:00.0"]}),
    ("shared", "0001:02:00.0 0001:01:00.0 0000:01:00.0",
     {"0000000040000000": ["0000:01:00.0", "0001:01:00.0", "0001:02:00.0"]}),
    ("legacy", "01:00.0 03:00.0 05:00.0 06:00.0", {"0000000040000000": ["0000:06:00.0"]}),
]

# What else must not be ok, with a word of the text or the remedy
VERDICTS = [
    ("laptop", "02:00.0", "architecture", "missing", "x86_64"),
    ("laptop", "02:00.0", "SMMUv3", "missing", "dmar0"),
    ("laptop", "02:00.0", "SMMU", "missing", "dmar0 is no SMMUv3"),
    ("ampere", "0002:01:00.0", "kernel", "missing", "6.12.57 is too old"),
    ("ampere", "0002:01:00.0", "kernel options", "missing",
     "CONFIG_IOMMUFD CONFIG_VFIO_DEVICE_CDEV CONFIG_ARM_SMMU_V3_IOMMUFD"),
    ("ampere", "0002:01:00.0", "driver", "missing", "nvme has it"),
    ("ampere", "0002:01:00.0", "ATS", "ok", "the device has none"),
    ("ampere", "000d:01:00.0", "ATS", "ok", "the root complex has none"),
    ("grace", "0008:01:00.0", "ATS", "ok", "the device and the root complex have it"),
    ("grace", "0008:01:00.0", "PASIDs", "ok", "20 bits"),
    ("grace", "0008:01:00.0", "CMDQV", "ok", "7 of 7"),
    ("grace", "0008:01:00.0", "nesting", "unknown",
     "does not promise CANWBS -> run this with --probe"),
    ("grace", "0008:01:00.0", "driver", "ok", "nvgrace_gpu_vfio_pci"),
    ("kunpeng", "75:00.0", "peer to peer", "note", "CONFIG_PCI_P2PDMA"),
    ("kunpeng", "75:00.0", "nesting", "unknown", "promises CANWBS"),
    ("kunpeng", "75:00.0", "CMDQV", "ok", "none"),
    ("kunpeng", "bd:00.0", "driver", "missing",
     "hns3 has it -> modprobe vfio-pci; "
     "echo vfio-pci > /sys/bus/pci/devices/0000:bd:00.0/driver_override; "
     "echo 0000:bd:00.0 > /sys/bus/pci/devices/0000:bd:00.0/driver/unbind; "
     "echo 0000:bd:00.0 > /sys/bus/pci/drivers_probe (libvirt"),
    ("group", "01:00.0", "IOMMU group", "missing",
     "echo 1 > /sys/bus/pci/devices/0000:01:00.1/remove"),
    ("group", "02:00.0", "IOMMU group", "ok", "alone"),
    ("legacy", "03:00.0", "above it", "missing", "0000:02:00.0"),
    ("legacy", "05:00.0", "1:1 mapping", "missing", "0x00000000a0000000"),
    ("legacy", "02:00.0", "kind", "missing", "it is a bridge"),
    ("shared", "0001:01:00.0", "kind", "ok", "bridge"),     # by its class, not by its header
    ("shared", "0000:01:00.0", "memory lock", "unknown",
     "see that 'ulimit -l' is above 1048576 (KiB)"),
]

GPU = "sys/bus/pci/devices/0008:01:00.0/"
GROUP = "sys/kernel/iommu_groups/"
OPTIONS = {n: "y" for n in ("IOMMUFD", "VFIO_DEVICE_CDEV", "VFIO_PCI", "ARM_SMMU_V3",
                            "ARM_SMMU_V3_IOMMUFD", "TEGRA241_CMDQV", "PCI_P2PDMA")}


def kernel_options(**changes):
    """A kernel's file of options; None leaves one out."""
    values = {**OPTIONS, **changes}
    return {"boot/config-7.3.4": "".join(f"CONFIG_{n}={v}\n" for n, v in values.items() if v)}


def at(offset, data, size=4096):
    """What changes bytes of a file, and cuts it."""
    return lambda old: (old[:offset] + data + old[offset + len(data):])[:size]


# What a change of a host's files does to a check.  The files get a text, or what a function
# makes of their bytes; None removes them.  No verdict: the check says nothing.
CHANGES = [
    ("6.18.99", "grace", {"proc/sys/kernel/osrelease": "6.18.99"}, "kernel", "missing",
     "Linux 6.18.99 is too old -> install Linux 6.19 or later"),
    ("6.19.0", "grace", {"proc/sys/kernel/osrelease": "6.19.0"}, "kernel", "ok", "Linux 6.19.0"),
    ("7.0", "grace", {"proc/sys/kernel/osrelease": "7.0.0-rc1"}, "kernel", "ok", "7.0.0-rc1"),
    ("5.20", "grace", {"proc/sys/kernel/osrelease": "5.20.1"}, "kernel", "missing", "too old"),
    ("/proc/version", "grace", {"proc/sys/kernel/osrelease": None,
                                "proc/version": "Linux version 6.20.7 (x) #1 SMP"},
     "kernel", "ok", "Linux 6.20.7"),
    ("no version", "grace", {"proc/sys/kernel/osrelease": None}, "kernel", "unknown",
     "6.19 or later"),
    ("modules", "grace", kernel_options(IOMMUFD="m", VFIO_PCI="m", ARM_SMMU_V3="m"),
     "kernel options", "ok", "IOMMUFD"),
    *((name, "grace", kernel_options(**{name: value}), "kernel options", "missing",
       f"not set: CONFIG_{name} -> use a kernel that has them")
      for name, value in (("IOMMUFD", None), ("VFIO_PCI", None), ("ARM_SMMU_V3", "n"),
                          ("VFIO_DEVICE_CDEV", "m"), ("ARM_SMMU_V3_IOMMUFD", "m"))),
    ("no CMDQV", "grace", kernel_options(TEGRA241_CMDQV=None), "kernel options", "note",
     "CONFIG_TEGRA241_CMDQV is not set"),
    ("config.gz", "grace", {"proc/config.gz": lambda _: gzip.compress(b"CONFIG_IOMMUFD=y\n")},
     "kernel options", "missing", "not set: CONFIG_VFIO_DEVICE_CDEV CONFIG_VFIO_PCI"),
    ("/lib/modules", "grace", {"boot/config-7.3.4": None,
                               "lib/modules/7.3.4/config": "CONFIG_PCI_P2PDMA=y\n"},
     "peer to peer", "ok", "CONFIG_PCI_P2PDMA"),
    ("no IORT", "grace", {"sys/firmware/acpi/tables/IORT": None}, "firmware", "unknown",
     "the table IORT cannot be read -> run this as root"),
    ("no IORT", "grace", {"sys/firmware/acpi/tables/IORT": None}, "CMDQV", "unknown",
     "run this as root"),
    ("a bridge", "grace", {GPU + "config": at(14, b"\1")}, "kind", "missing",
     "it is a bridge -> name the devices behind it"),
    ("a CardBus bridge", "grace", {GPU + "config": at(14, b"\x82")}, "kind", "missing",
     "it is a bridge"),
    ("64 bytes", "grace", {GPU + "config": at(0, b"", 64)}, "ATS", "unknown", "run this as root"),
    ("64 bytes", "grace", {GPU + "config": at(0, b"", 64)}, "PASIDs", "unknown",
     "run this as root"),
    ("256 bytes", "grace", {GPU + "config": at(0, b"", 256)}, "ATS", "ok", "has none"),
    ("reserved bits", "grace", {GPU + "config": at(0x155, b"\xf4")}, "PASIDs", "ok",
     "the device has 20 bits"),
    ("at the end", "grace", {GPU + "config": lambda old: at(0xffc, b"\x1b\0\1\0")(
        at(0x100, b"\1\0\xc1\xff")(old))}, "PASIDs", "ok", "the device has none"),
    ("no group", "grace", {GPU + "iommu_group": None}, "IOMMU group", "missing",
     "it has no IOMMU group -> see the host's log"),
    ("a bridge in the group", "group", {GROUP + "7/devices/0000:00:01.0": ""}, "IOMMU group",
     "missing", "group 7 has 0000:00:01.0, 0000:01:00.1 as well, and Linux has one translation "
     "for all of a group -> use a slot with ACS, or assign the device without accel=on; the "
     "bridge 0000:00:01.0 must stay"),
    ("direct", "grace", {GPU + "iommu_group/reserved_regions":
                         "0x0 0xfff msi\n0x0000000080000000 0x00000000800fffff direct\n"},
     "1:1 mapping", "missing", "firmware wants 0x0000000080000000 mapped one to one"),
    ("relaxable", "grace", {GPU + "iommu_group/reserved_regions": "0x0 0xfff direct-relaxable\n"},
     "1:1 mapping", None, ""),
    ("no vfio-dev", "grace", {GPU + "vfio-dev": None}, "driver", "missing",
     "nvgrace_gpu_vfio_pci has it, but it has no vfio-dev directory -> use a kernel with"),
    ("no driver", "grace", {GPU + "vfio-dev": None, GPU + "driver": None}, "driver", "missing",
     "no driver has it -> modprobe vfio-pci; "
     "echo vfio-pci > /sys/bus/pci/devices/0008:01:00.0/driver_override; "
     "echo 0008:01:00.0 > /sys/bus/pci/drivers_probe"),
]
DEVICES = {"grace": "0008:01:00.0", "group": "0000:01:00.0"}

# What --probe's answers do to a check of 0008:01:00.0 of grace: Answer's members
ASKED = dict(smmuv3=True, nests=True)
REFUSED = dict(smmuv3=True, why_not="IOMMU_VIOMMU_ALLOC: Operation not supported")
ANSWERS = [
    (ASKED, "nesting", "ok", "the kernel made a vIOMMU for it"),
    (REFUSED, "nesting", "missing", "IOMMU_VIOMMU_ALLOC: Operation not supported; IDR3.FWB is 0, "
     "so that firmware must promise CANWBS -> see smmuv3.rst, Requirements"),
    ({**REFUSED, "idr": [0, 0, 0, 1 << 8, 0, 0]}, "nesting", "missing",
     "Operation not supported -> see"),
    ({**REFUSED, "idr": [0, 0, 0, 1 << 8, 0, 0], "iidr": 0x4830043b}, "nesting", "missing",
     "Operation not supported (MMU-600 with erratum 1209401) -> see"),
    (dict(why_not="its IOMMU is of type 1"), "nesting", "missing", "is of type 1 -> see"),
    ({**ASKED, "ats": True}, "ATS", "ok", "the host lets it use ATS"),
    (ASKED, "ATS", "ok", "none"),
    ({**ASKED, "pasid": 16}, "PASIDs", "ok", "16 bits"),
    (ASKED, "PASIDs", "ok", "none"),
    (ASKED, "erratum", "ok", "T264-SMMU-3 is not here"),
    ({**ASKED, "erratum": True}, "erratum", "note", "T264-SMMU-3: QEMU repeats the commands"),
]

# Layout, addresses, answers for them, and what auto becomes for the first SMMU
IDR = {"20 bits": 20 << 6, "31 bits": 31 << 6}
AUTOS = [
    ("ampere", "000d:01:00.0", [], {"ats": "off", "cmdqv": "off"}),
    ("ampere", "0002:01:00.0", [], {"ats": "off"}),
    ("grace", "0008:01:00.0", [], {
        "ats": "as the host has it; --probe tells", "oas": "as the host has it; --probe tells",
        "cmdqv": "off (the host has one: cmdqv=on uses it)"}),
    ("grace", "0008:01:00.0", [dict(ats=True)], {"ats": "on"}),
    ("grace", "0008:01:00.0", [{}], {"ats": "off"}),
    ("grace-two", "0008:01:00.0 0008:02:00.0", [{}],
     {"ats": "as the host has it; --probe tells"}),
    ("grace-two", "0008:01:00.0 0008:02:00.0", [{}, {}], {"ats": "off"}),
    ("grace", "0008:01:00.0", [dict(idr=[0, 31 << 6, 0, 1 << 10, 0, 0x40], address_bits=52)],
     {"ssidsize": "20", "oas": "52", "ril": "on"}),
    ("grace", "0008:01:00.0", [dict(idr=[0, 20 << 6, 0, 0, 0, 0x30], address_bits=52)],
     {"ssidsize": "20", "oas": "48", "ril": "off"}),
    ("grace", "0008:01:00.0", [dict(address_bits=43)], {"ssidsize": "0", "oas": "42"}),
]

# BARs as a layout has them, and the windows that a port needs: I/O, below and above 4 GiB
WINDOWS = [
    ("", 0, 0, 0),
    ("16K:32", 0, 2 << 20, 0),
    ("16K:64p", 0, 0, 2 << 20),
    ("16K:64", 0, 2 << 20, 0),
    ("128:io", 4096, 0, 0),
    ("8K:io", 8192, 0, 0),
    ("2M:32,64K:rom", 0, 4 << 20, 0),
    ("16M:64p,128G:64p,32M:64p", 0, 0, 256 << 30),
]

# The plan's text, of addresses, memory and CPUs: what it says, or does not
NUMA = [
    ("4G", 4, "-smp 4,sockets=2 ", "size=2G,host-nodes=0,policy=bind",
     "nodeid=0,cpus=0-1,memdev=ram0", "nodeid=1,cpus=2-3,memdev=ram1"),
    ("4G", 3, "-smp 3,sockets=3 ", "nodeid=0,cpus=0-1,memdev=ram0",
     "nodeid=1,cpus=2-2,memdev=ram1"),
    ("4G", 6, "-smp 6,sockets=2 ", "cpus=0-2", "cpus=3-5"),
    ("4G", 1, "-smp 1 ", "nodeid=0,cpus=0-0,memdev=ram0", "nodeid=1,memdev=ram1"),
    ("1025M", 4, "-m 1025M", "id=ram0,size=513M", "id=ram1,size=512M"),
]

GOOD = ("grace", "0008:01:00.0 0019:01:00.0")

# What is replaced in a good command line or XML, by what, and the rule that it breaks
BREAKS = [
    ("-machine virt,", "-machine virt-11.1,", "machine type"),
    ("-machine virt,", "-machine virt-10.0,", None),
    ("-machine virt,", "-machine q35,", "machine type", "only virt has SMMUv3s"),
    ("-machine virt,", "--machine virt,", None),
    ("-machine virt,", "-machine virt,acpi=off,", "ACPI"),
    ("if=pflash", "if=none", "ACPI"),
    ("if=pflash", "if=none -machine pflash0=code", None),
    ("-machine virt,", "-machine virt,its=off,", "MSIs"),
    ("-machine virt,", "-machine virt,its=no,", "MSIs"),
    ("gic-version=3", "gic-version=2,its=off", None),
    ("-machine virt,", "-machine virt,iommu=smmuv3,", "one kind of IOMMU"),
    ("-nographic", "-device virtio-iommu-pci,bus=pcie.0", "one kind of IOMMU",
     "a virtio-iommu-pci is there"),
    ("-device arm-smmuv3,", "-device edu,", "there is an SMMU"),
    ("primary-bus=pcie.1", "primary-bus=port1", "primary-bus"),
    ("primary-bus=pcie.1", "primary-bus=pcie.2", "primary-bus"),
    ("id=port2,", "id=port1,", "ids"),
    ("bus=port2", "bus=port9", "ids"),
    (",bus_nr=84", "", "bus numbers"),
    (",bus_nr=84", ",bus_nr=167", "bus numbers"),
    ("chassis=2", "chassis=1", "chassis and slot"),
    ("pcie-root-port,id=port2,bus=pcie.2,chassis=2", "ioh3420,id=port2,bus=pcie.2,chassis=1",
     "chassis and slot", "port2 and port1 have the same"),
    ("chassis=2", "chassis=1,slot=3", None),
    ("pref64-reserve", "pref32-reserve", "reserves"),
    ("pref64-reserve=256G", "mem-reserve=4G", "reserves"),
    ("pref64-reserve=256G", "pref64-reserve=256G,pref32-reserve=1M", "reserves"),
    ("highmem-mmio-size=1T", "highmem-mmio-size=768G", "window above 4 GiB"),
    ("highmem-mmio-size=1T", "highmem-mmio-size=256G", "window above 4 GiB"),
    ("highmem-mmio-size=1T", "highmem-mmio-size=lots", "window above 4 GiB"),
    ("numa_node=1", "numa_node=77", "NUMA"),
    ("numa_node=1", "numa_node=0", "NUMA"),
    ("drive=disk,bus=pcie.0", "drive=disk,bus=port1", "assigned devices only"),
    ("-nic none", "", None),
    ("-nic none", "-smp cores=4,threads=1", None),
    ("-nic none", "-device virtio-scsi-pci,id=s -device scsi-hd,bus=s.0,drive=d", None),
    ("-nic none", "-device virtio-serial-pci,id=v -device virtserialport,bus=v.0,name=x", None),
    ("-nic none", "-device qemu-xhci,id=usb -device usb-kbd,bus=usb.0", None),
    ("-nic none", "-device nvme,id=n,serial=x -device nvme-ns,bus=n,drive=d", None),
    ("-nic none", "-device virtio-blk,bus=port2", "assigned devices only"),
    ("-nic none", "-device virtio-blk,bus=port9", "ids", "there is no bus port9"),
    (",iommufd=iommufd0", "", "iommufd"),
    ("id=dev2,iommufd=iommufd0,bus=port2",
     "id=dev2,iommufd=iommufd1,bus=port2 -object iommufd,id=iommufd1", None),
    ("-object iommufd,id=iommufd0", "", "iommufd"),
    ("bus=port2", "bus=port1", "one physical SMMU"),
    ("host=0019:01:00.0", "host=0008:01:00.0", "SMMUs of one physical SMMU"),
    ("id=smmu2,accel=on", "id=smmu2", "translated at all", "which is emulated and never sees"),
    *(("id=smmu2,accel=on", f"id=smmu2,accel={no}", "translated at all") for no in (
        "off", "no", "false", "n")),
    *(("accel=on", f"accel={yes}", None) for yes in ("yes", "true", "y")),
    ("id=smmu2,accel=on", "id=smmu2,accel=1", "properties", "accel=1 is not possible -> write on"),
    ("accel=on", "accel=on,share-stage2=yes", None),
    ("id=dev2,iommufd=iommufd0,bus=port2", "id=dev2,iommufd=iommufd0,bus=pcie.0",
     "translated at all", "dev2 is on pcie.0, which has no SMMU"),
    ("id=dev2,iommufd=iommufd0,bus=port2", "id=dev2,iommufd=iommufd0,bus=pcie.0",
     "translated at all", "no device is behind smmu2 at start"),
    ("id=smmu2,accel=on", "id=smmu2,accel=on,primary-bus=pcie.0", "translated at all"),
    ("host=0019:01:00.0", "host=0019:02:00.0", "host's devices"),
    ("host=0019:01:00.0,", "", "host's devices", "neither host= nor fd="),
    ("host=0019:01:00.0", "sysfsdev=/sys/bus/pci/devices/0019:01:00.0", None),
    ("host=0019:01:00.0", "fd=5", None),
    ("host=0019:01:00.0", "host=$GPU", None),
    ("id=smmu1,", "id=smmu1,pasid=on,", "properties"),
    ("id=smmu1,", "id=smmu1,ssidsize=21,", "properties"),
    ("id=smmu1,", "id=smmu1,oas=43,", "properties"),
    ("id=smmu1,", "id=smmu1,atss=on,", "properties"),
    ("id=smmu1,", "id=smmu1,stage=2,", "properties"),
    ("id=smmu1,", "id=smmu1,s2fwb=yes,", "properties", "stage 2 belongs to the host"),
    ("id=smmu1,accel=on", "id=smmu1,ril=off", "properties", "ril=off needs accel=on"),
    ("-nographic", "-global arm-smmuv3.oas=43", "properties", "oas=43 is not possible"),
    ("-nographic", "-global arm-smmuv3.accel=off", None),
    ("-nographic", "-global arm-smmuv3.ssidsize=20", None),
    ("id=smmu1,accel=on", "id=smmu1,ats=on", "properties"),
    ("accel=on", "accel=on,identifier=3", "properties"),
    ("id=smmu1,", "id=smmu1,x-cmdqv-backend=hardware,", "properties"),
    ("id=smmu1,", "id=smmu1,cmdqv=on,cmdqv-poll-us=1000,", None),
    ("id=smmu1,", "id=smmu1,cmdqv=on,cmdqv-poll-us=9,", "properties"),
    ("id=smmu1,", "id=smmu1,cmdqv-poll-us=1000,", "properties"),
    ("id=smmu1,accel=on", "id=smmu1,oas=48", "properties"),
    *(("id=dev1,", f"id=dev1,x-vpasid-cap-offset={bad},", "PASID capability")
      for bad in ("0xfe2", "0x40", "0xffc", "0x1000", "x")),
    *(("id=dev1,", f"id=dev1,x-vpasid-cap-offset={good},", None)
      for good in ("0", "0x100", "0xff8")),
    ("-object acpi-generic-initiator,", "-object rng-builtin,", None),
    ("-numa", "-name", "NUMA"),
]

XML_BREAKS = [
    ("machine='virt'", "machine='virt-11.1'", "machine type"),
    ("<acpi/>", "", "ACPI"),
    (" firmware='efi'", "", "ACPI"),
    ("model='smmuv3'", "model='intel'", "there is an SMMU"),
    ("pciBus='1'", "pciBus='2'", "primary-bus"),
    ("pciBus='1' ", "", "primary-bus"),
    ("busNr='84'", "busNr='167'", "bus numbers"),
    ("<pcihole64 unit='KiB'>1073741824<", "<pcihole64 unit='GiB'>512<", "window above 4 GiB"),
    ("<node>1<", "<node>90<", "NUMA"),
    ("<driver iommufd='yes'/>", "", "iommufd"),
    ("<driver pciBus='1' accel='on'/>", "<driver pciBus='1' accel='on' ssidSize='20'/>",
     "properties"),
    ("<target dev='vda' bus='virtio'/>", "<target dev='vda' bus='virtio'/>"
     "<address type='pci' bus='0x02' slot='0x00' function='0x0'/>", "assigned devices only"),
    ("<driver pciBus='1' accel='on'/>", "<driver pciBus='0' accel='on'/>",
     "assigned devices only"),
    ("domain='0x0019'", "domain='0x0020'", "host's devices"),
]

# Words of <qemu:arg> in a good XML, and the rule that is broken
ARGUMENTS = [
    ("-device virtio-blk-pci,bus=pci.4", "assigned devices only"),
    ("-device virtio-blk-pci,bus=pci.9", "ids"),
    ("-device virtio-blk-pci,bus=pcie.0", None),
    ("-device arm-smmuv3,primary-bus=pci.1,id=again,accel=on", "primary-bus"),
    ("-device vfio-pci,host=0009:01:00.0,bus=pci.2", "iommufd"),
    ("-global arm-smmuv3.oas=43", "properties"),
    ("-global arm-smmuv3.oas=48", None),
    ("-global arm-smmuv3.accel=off", None),         # libvirt writes accel= itself
    ("-machine its=off", "MSIs"),
    ("-nic user", None),
]

# Elements of an XML, and whether libvirt puts them on a PCI bus
ELEMENTS = [
    ("<interface type='user'/>", True), ("<rng model='virtio'/>", True),
    ("<video/>", True), ("<sound model='ich9'/>", True), ("<vsock model='virtio'/>", True),
    ("<shmem name='x'/>", True), ("<crypto model='virtio'/>", True), ("<memballoon/>", True),
    ("<memballoon model='none'/>", False), ("<video model='none'/>", False),
    ("<disk><target dev='vda' bus='virtio'/></disk>", True),
    ("<disk><target dev='sda' bus='scsi'/></disk>", False), ("<serial type='pty'/>", False),
    ("<input type='tablet'><address type='pci' bus='0x00' slot='0x03'/></input>", True),
]

# Options, and whether QEMU makes virt's default NIC with them
NICS = [
    ("", True), ("-nic none", False), ("-net none", False), ("-nodefaults", False),
    ("-nic hubport,hubid=0,model=e1000e", False), ("-netdev hubport,hubid=0,id=n", False),
    ("-device virtio-net-pci,id=n", True),
    ("-netdev hubport,hubid=0,id=n -device virtio-net-pci,netdev=n,id=m", False),
    ("-device e1000e,id=n", True),
]

# Command lines that people run, with all that this QEMU takes unchanged
PEOPLE = {
    "NVIDIA's, for a GPU": ("grace", """
qemu-system-aarch64 -object iommufd,id=iommufd0 \\
  -machine virt,accel=kvm,gic-version=3,ras=on,highmem-mmio-size=4T -machine hmat=on \\
  -cpu host -smp 4 -m 16G,slots=2,maxmem=66G -nographic -nodefaults \\
  -object memory-backend-ram,size=8G,id=m0 -numa node,memdev=m0,cpus=0-3,nodeid=0 \\
  -numa node,nodeid=1 -numa node,nodeid=2 -numa node,nodeid=3 -numa node,nodeid=4 \\
  -drive file=CODE.fd,format=raw,if=pflash,readonly=on -drive file=VARS.fd,if=pflash,format=raw \\
  -device pxb-pcie,id=pcie.1,bus_nr=1,bus=pcie.0 \\
  -device arm-smmuv3,primary-bus=pcie.1,id=smmu.1,accel=on,ats=on,ril=off,ssidsize=20,oas=48 \\
  -device pcie-root-port,id=rp1,bus=pcie.1,chassis=1,io-reserve=0,pref64-reserve=512G \\
  -device vfio-pci-nohotplug,host=0008:01:00.0,rombar=0,id=dev0,iommufd=iommufd0,bus=rp1 \\
  -object acpi-generic-initiator,id=gi0,pci-dev=dev0,node=2
"""),
    "HiSilicon's, on pcie.0 and a PXB": ("kunpeng", """
./qemu-system-aarch64 -M virt,gic-version=3,accel=kvm -nic none -cpu host -m 4G \\
  -object iommufd,id=iommufd0 -bios QEMU_EFI.fd \\
  -device arm-smmuv3,primary-bus=pcie.0,id=smmuv3.0,accel=on \\
  -device pcie-root-port,id=pcie.port1,bus=pcie.0,chassis=1,pref64-reserve=2M,io-reserve=1K \\
  -device vfio-pci,host=0000:7d:00.1,bus=pcie.port1,iommufd=iommufd0 \\
  -device pxb-pcie,id=pcie.1,bus_nr=8,bus=pcie.0 \\
  -device arm-smmuv3,primary-bus=pcie.1,id=smmuv3.1,accel=on \\
  -device pcie-root-port,id=pcie.port2,bus=pcie.1,chassis=2,pref64-reserve=2M,io-reserve=1K \\
  -device vfio-pci,host=0000:75:00.0,bus=pcie.port2,iommufd=iommufd0
"""),
    "libvirt's, with JSON and fds": ("grace", """
/usr/bin/qemu-system-aarch64 -machine virt,usb=off,gic-version=3,acpi=on -accel kvm \\
  -blockdev '{"driver":"file","filename":"c.fd","node-name":"libvirt-pflash0-storage"}' \\
  -nodefaults -object '{"qom-type":"iommufd","id":"iommufd0","fd":"23"}' \\
  -device '{"driver":"pxb-pcie","bus_nr":128,"id":"pci.1","bus":"pcie.0","addr":"0x1"}' \\
  -device '{"driver":"pcie-root-port","port":0,"chassis":2,"id":"pci.2","bus":"pci.1"}' \\
  -device '{"driver":"arm-smmuv3","primary-bus":"pci.1","id":"iommu0","accel":true,"ats":"on"}' \\
  -device '{"driver":"vfio-pci","id":"hostdev0","iommufd":"iommufd0","fd":"24","bus":"pci.2"}'
"""),
}

BAD = ["", "hello", "<a/>", "<domain>", "-device '{\"driver\":'", "-device 'x", "\0\1\2",
       "<!DOCTYPE a [<!ENTITY b \"c\">]><domain>&b;</domain>", "-device ,,,,=,", "<domain/>",
       "-device pxb-pcie,bus_nr=x -numa node,nodeid=q -m fish -smp cat -M virt",
       "<domain><devices><controller type='pci' index='x' model='pcie-expander-bus'/>"
       "<hostdev type='pci'/><iommu model='smmuv3'/></devices></domain>",
       "-device pcie-root-port,id=a,bus=b -device pcie-root-port,id=b,bus=a",
       "-device '[1]' -device '{\"driver\":[],\"id\":{}}'", "-object '{}' -object x,=y -global z"]

JUNK = {"empty": b"", "text": b"no such thing\n" * 3, "bytes": bytes(range(256)) * 20,
        "huge": b"9" * 5000}

FILES = ["sys/bus/pci/devices/0008:01:00.0/" + name
         for name in ("class", "vendor", "device", "resource", "numa_node", "config")] + [
    "sys/firmware/acpi/tables/IORT", "boot/config-7.3.4", "proc/sys/kernel/osrelease",
    "proc/sys/kernel/arch", "sys/devices/system/node/node0/cpulist",
    "sys/bus/acpi/devices/NVDA200C:00/uid"]

LINKS = ["iommu", "iommu_group", "driver"]

# Profile of the host model, keys of the SMMU and of the device, and what is answered
PROBES = [
    ("grace", "", "ats=on\npasid=20", {"nests": True, "ril": 1, "fwb": 1, "ssidsize": 20,
                                       "ats": True, "pasid": 20, "address_bits": 48,
                                       "erratum": False, "cmdqv": False}),
    ("grace-cmdqv", "", "", {"cmdqv": True, "nests": True, "ats": False, "pasid": 0}),
    ("kunpeng", "", "", {"nests": True, "fwb": 0, "ril": 0}),
    ("minimal", "", "", {"nests": True, "ssidsize": 0, "address_bits": 40}),
    ("nofwb", "", "", {"nests": False, "fwb": 0,
                       "why_not": "IOMMU_VIOMMU_ALLOC: Operation not supported"}),
    ("onestage", "", "", {"nests": False}),
    ("tegra264", "", "", {"erratum": True, "nests": True}),
    ("grace", "no_hw_info=1", "", {"smmuv3": False, "nests": False}),
]
