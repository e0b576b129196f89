"""What is tested with what: tables, and texts that people write."""
# SPDX-License-Identifier: GPL-2.0-or-later

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
    ("legacy", "03:00.0 05:00.0 06:00.0", {"0000000040000000": ["0000:06:00.0"]}),
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
    ("grace", "0008:01:00.0", "nesting", "unknown", "--probe"),
    ("grace", "0008:01:00.0", "driver", "ok", "nvgrace_gpu_vfio_pci"),
    ("kunpeng", "75:00.0", "peer to peer", "note", "CONFIG_PCI_P2PDMA"),
    ("kunpeng", "75:00.0", "nesting", "unknown", "promises CANWBS"),
    ("kunpeng", "75:00.0", "CMDQV", "ok", "none"),
    ("kunpeng", "bd:00.0", "driver", "missing",
     "echo 0000:bd:00.0 > /sys/bus/pci/devices/0000:bd:00.0/driver/unbind"),
    ("group", "01:00.0", "IOMMU group", "missing",
     "echo 1 > /sys/bus/pci/devices/0000:01:00.1/remove"),
    ("group", "02:00.0", "IOMMU group", "ok", "alone"),
    ("legacy", "03:00.0", "above it", "missing", "0000:02:00.0"),
    ("legacy", "05:00.0", "1:1 mapping", "missing", "0x00000000a0000000"),
    ("legacy", "02:00.0", "kind", "missing", "it is a bridge"),
    ("shared", "0001:01:00.0", "kind", "ok", "bridge"),     # by its class, not by its header
    ("shared", "0000:01:00.0", "memory lock", "unknown", "ulimit -l"),
]

GOOD = ("grace", "0008:01:00.0 0019:01:00.0")

# What is replaced in a good command line or XML, by what, and the rule that it breaks
BREAKS = [
    ("-machine virt,", "-machine virt-11.1,", "machine type"),
    ("-machine virt,", "-machine q35,", "machine type"),
    ("-machine virt,", "-machine virt,acpi=off,", "ACPI"),
    ("if=pflash", "if=none", "ACPI"),
    ("-machine virt,", "-machine virt,its=off,", "MSIs"),
    ("-machine virt,", "-machine virt,iommu=smmuv3,", "one kind of IOMMU"),
    ("-device arm-smmuv3,", "-device edu,", "there is an SMMU"),
    ("primary-bus=pcie.1", "primary-bus=port1", "primary-bus"),
    ("primary-bus=pcie.1", "primary-bus=pcie.2", "primary-bus"),
    ("id=port2,", "id=port1,", "ids"),
    ("bus=port2", "bus=port9", "ids"),
    (",bus_nr=84", "", "bus numbers"),
    (",bus_nr=84", ",bus_nr=167", "bus numbers"),
    ("chassis=2", "chassis=1", "chassis and slot"),
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
    (",iommufd=iommufd0", "", "iommufd"),
    ("-object iommufd,id=iommufd0", "", "iommufd"),
    ("bus=port2", "bus=port1", "one physical SMMU"),
    ("host=0019:01:00.0", "host=0008:01:00.0", "SMMUs of one physical SMMU"),
    ("id=smmu2,accel=on", "id=smmu2", "translated at all"),
    ("id=smmu2,accel=on", "id=smmu2,accel=on,primary-bus=pcie.0", "translated at all"),
    ("host=0019:01:00.0", "host=0019:02:00.0", "host's devices"),
    ("host=0019:01:00.0,", "", "host's devices"),
    ("host=0019:01:00.0", "host=$GPU", None),
    ("id=smmu1,", "id=smmu1,pasid=on,", "properties"),
    ("id=smmu1,", "id=smmu1,ssidsize=21,", "properties"),
    ("id=smmu1,", "id=smmu1,oas=43,", "properties"),
    ("id=smmu1,", "id=smmu1,atss=on,", "properties"),
    ("id=smmu1,", "id=smmu1,stage=2,", "properties"),
    ("id=smmu1,accel=on", "id=smmu1,ats=on", "properties"),
    ("accel=on", "accel=on,identifier=3", "properties"),
    ("id=smmu1,", "id=smmu1,x-cmdqv-backend=hardware,", "properties"),
    ("id=smmu1,", "id=smmu1,cmdqv=on,cmdqv-poll-us=1000,", None),
    ("id=smmu1,", "id=smmu1,cmdqv=on,cmdqv-poll-us=9,", "properties"),
    ("id=smmu1,", "id=smmu1,cmdqv-poll-us=1000,", "properties"),
    ("id=smmu1,accel=on", "id=smmu1,oas=48", "properties"),
    ("id=dev1,", "id=dev1,x-vpasid-cap-offset=0xfe2,", "PASID capability"),
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
