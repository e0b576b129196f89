"""What only the host's iommufd can say: ID registers, PASIDs, whether it nests.

A device is bound to an iommufd of this process, attached to an empty address space,
and given back.  The calls and structures are those of linux/iommufd.h and
linux/vfio.h.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import array
import errno
import fcntl
import os
import struct
from dataclasses import dataclass, field

TYPE = ord(";") << 8
IOAS_ALLOC, IOAS_IOVA_RANGES, HWPT_ALLOC, GET_HW_INFO, VIOMMU_ALLOC = (
    TYPE | n for n in (0x81, 0x84, 0x89, 0x8a, 0x90))
BIND_IOMMUFD, ATTACH_PT = (TYPE | 100 + n for n in (18, 19))
NEST_PARENT = 1
INPUT_TYPE = 1
ARM_SMMUV3, TEGRA241_CMDQV = 2, 3           # enum iommu_hw_info_type
VIOMMU_ARM_SMMUV3 = 1                       # enum iommu_viommu_type
ATS_NOT_SUPPORTED = 8                       # IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED
ERRATA_REPEAT = 1                           # IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI

# Only fields that linux/iommufd.h lets user space read, and FWB for a reason of a refusal
FIELDS = {"ril": (3, 10, 1), "fwb": (3, 8, 1), "ssidsize": (1, 6, 5),
          "gran64k": (5, 6, 1)}
# Revisions on which arm_smmu_device_iidr_probe() gives nesting up
ARM = 0x43b


class Refused(Exception):
    """Why nothing could be asked."""


@dataclass
class Answer:
    smmuv3: bool = False
    nests: bool = False
    why_not: str = ""
    idr: list = field(default_factory=lambda: [0] * 6)
    iidr: int = 0
    pasid: int = 0              # bits
    ats: bool = False           # for this device
    erratum: bool = False
    address_bits: int = None    # of the empty address space
    cmdqv: bool = False

    def get(self, name):
        register, shift, length = FIELDS[name]
        return self.idr[register] >> shift & (1 << length) - 1

    def old_revision(self):
        product, variant, revision = (self.iidr >> 20, self.iidr >> 16 & 15,
                                      self.iidr >> 12 & 15)
        if self.iidr & 0xfff == ARM:
            if product == 0x483 and variant < 2:
                return "MMU-600 with erratum 1209401"
            if product == 0x487 and (variant < 1 or revision < 1):
                return "MMU-700 with erratum 2268618"
        return None


def call(fd, number, layout, *values):
    """An ioctl whose structure begins with its size; the structure afterwards."""
    data = bytearray(struct.pack("=I" + layout, struct.calcsize("=I" + layout), *values))
    fcntl.ioctl(fd, number, data)
    return struct.unpack("=I" + layout, data)[1:]


def hw_info(iommufd, device, kind, size):
    """(type, log2 of PASIDs, capabilities, data), of IOMMU_GET_HW_INFO."""
    data = array.array("B", bytes(size))
    _, _, _, _, found, pasid, _, caps = call(
        iommufd, GET_HW_INFO, "IIIQIB3sQ", INPUT_TYPE if kind else 0, device, size,
        data.buffer_info()[0], kind, 0, bytes(3), 0)
    return found, pasid, caps, data.tobytes()


def ask(iommufd, device_fd):
    """Ask about the device whose VFIO fd that is.  Both fds are to be closed after it."""
    try:
        _, _, device = call(device_fd, BIND_IOMMUFD, "IiI", 0, iommufd, 0)
    except OSError as e:
        busy = " (another program has the device)" if e.errno in (errno.EBUSY, errno.EINVAL) else ""
        raise Refused(f"VFIO_DEVICE_BIND_IOMMUFD: {e.strerror}{busy}") from None
    answer = Answer()
    try:
        kind, answer.pasid, caps, data = hw_info(iommufd, device, 0, 40)
    except OSError as e:
        raise Refused(f"IOMMU_GET_HW_INFO: {e.strerror}") from None
    answer.smmuv3 = kind == ARM_SMMUV3
    if not answer.smmuv3:
        answer.why_not = f"its IOMMU is of type {kind}, and an SMMUv3 has {ARM_SMMUV3}"
        return answer
    flags, _, *answer.idr, answer.iidr, _aidr = struct.unpack("=10I", data)
    answer.erratum = bool(flags & ERRATA_REPEAT)
    answer.ats = not caps & ATS_NOT_SUPPORTED
    answer.cmdqv = has_cmdqv(iommufd, device)
    nest(iommufd, device_fd, device, answer)
    return answer


def has_cmdqv(iommufd, device):
    try:
        return hw_info(iommufd, device, TEGRA241_CMDQV, 8)[0] == TEGRA241_CMDQV
    except OSError:
        return False


def nest(iommufd, device_fd, device, answer):
    """Do what QEMU will do: a parent, a vIOMMU on it."""
    what = "IOMMU_IOAS_ALLOC"
    try:
        _, ioas = call(iommufd, IOAS_ALLOC, "II", 0, 0)
        what = "IOMMU_HWPT_ALLOC of a nesting parent"
        hwpt = call(iommufd, HWPT_ALLOC, "IIIIIIIQII", NEST_PARENT, device, ioas,
                    0, 0, 0, 0, 0, 0, 0)[3]
        what = "IOMMU_VIOMMU_ALLOC"
        call(iommufd, VIOMMU_ALLOC, "IIIIIIIQ", 0, VIOMMU_ARM_SMMUV3, device, hwpt, 0, 0, 0, 0)
        answer.nests = True
        what = "VFIO_DEVICE_ATTACH_IOMMUFD_PT"
        call(device_fd, ATTACH_PT, "II", 0, hwpt)
        answer.address_bits = address_bits(iommufd, ioas)
    except OSError as e:
        answer.why_not = f"{what}: {e.strerror}"


def address_bits(iommufd, ioas):
    most = 64
    ranges = array.array("Q", [0] * 2 * most)
    found = call(iommufd, IOAS_IOVA_RANGES, "IIIQQ", ioas, most, 0, ranges.buffer_info()[0], 0)[1]
    ends = [ranges[2 * n + 1] for n in range(min(found, most))]
    return (max(ends) + 1).bit_length() - 1 if ends else None


def ask_device(host, device):
    """Ask the host about one of its devices, by the nodes in /dev."""
    if not host.live:
        raise Refused("a copy of a host cannot be asked: run with --probe on the host itself")
    if not device.vfio:
        raise Refused("bind it to vfio-pci first")
    path = "/dev/iommu"
    fds = []
    try:
        fds.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        path = f"/dev/vfio/devices/{device.vfio}"
        fds.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        return ask(*fds)
    except OSError as e:
        raise Refused(f"{path}: {e.strerror}") from None
    finally:
        for fd in reversed(fds):
            os.close(fd)
