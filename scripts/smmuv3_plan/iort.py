"""The host's ACPI table IORT: what firmware says of SMMUs and root complexes.

The layout is that of Linux's include/acpi/actbl2.h (struct acpi_iort_*).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import struct
from dataclasses import dataclass, field

NODE_PCI_ROOT_COMPLEX = 2
NODE_SMMU_V3 = 4
ATS_SUPPORTED = 1           # ACPI_IORT_ATS_SUPPORTED
CANWBS = 4                  # ACPI_IORT_MF_CANWBS


class BadTable(Exception):
    """Why the table cannot be read."""


@dataclass
class RootComplex:
    segment: int
    ats: bool
    canwbs: bool


@dataclass
class Iort:
    """Root complexes, and the identifier of each SMMUv3 by its base address."""

    complexes: list = field(default_factory=list)
    smmus: dict = field(default_factory=dict)

    def complex_of(self, segment):
        """The first one of the segment, as iort_match_node_callback() takes it."""
        return next((c for c in self.complexes if c.segment == segment), None)


def parse(data):
    if len(data) < 48 or data[:4] != b"IORT":
        raise BadTable("it does not begin as an IORT does")
    end = min(struct.unpack_from("<I", data, 4)[0], len(data))
    count, offset = struct.unpack_from("<II", data, 36)
    table = Iort()
    for _ in range(count):
        if offset + 16 > end:
            raise BadTable(f"node at {offset:#x} is beyond its end")
        kind, length, _revision, identifier = struct.unpack_from("<BHBI", data, offset)
        if length < 16 or offset + length > end:
            raise BadTable(f"node at {offset:#x} has {length} bytes")
        body = data[offset + 16:offset + length]
        if kind == NODE_PCI_ROOT_COMPLEX and len(body) >= 16:
            ats, segment = struct.unpack_from("<II", body, 8)
            table.complexes.append(RootComplex(segment, bool(ats & ATS_SUPPORTED),
                                               bool(body[7] & CANWBS)))
        elif kind == NODE_SMMU_V3 and len(body) >= 8:
            table.smmus[struct.unpack_from("<Q", body)[0]] = identifier
        offset += length
    return table
