"""What a person reads: plain text for 80 columns."""
# SPDX-License-Identifier: GPL-2.0-or-later

import textwrap

from . import checks
from .machine import size_text

WIDTH = 79
COLUMN = 27


def fold(text, indent, first=None):
    """TEXT in lines, the first of which begins with FIRST."""
    return textwrap.fill(text, WIDTH, initial_indent=first if first is not None else indent,
                         subsequent_indent=indent, break_on_hyphens=False,
                         break_long_words=False)


def heading(text):
    return f"\n{text}\n{'=' * len(text)}"


def result_lines(results):
    for one in results:
        first = f"  {one.verdict:8} {one.check:15} "
        yield fold(one.text, " " * COLUMN, first.ljust(COLUMN))
        if one.remedy and one.verdict != checks.OK:
            yield fold("-> " + one.remedy, " " * (COLUMN + 3), " " * COLUMN)


def host_report(host, results):
    yield heading("The host" if host.live else f"The host in {host.root}").lstrip("\n")
    yield from result_lines(r for r in results if r.device is None)


def inventory(host):
    """Which devices share a physical SMMU."""
    if not host.smmus:
        return
    yield heading("SMMUs and the devices behind them")
    for smmu in host.smmus.values():
        devices = [host.devices[a] for a in smmu.devices if not host.devices[a].bridge]
        if not devices:
            continue
        yield f"{smmu.name}" + (", with a CMDQV" if smmu.cmdqv else "")
        for d in devices:
            group = f"group {d.group}" if d.group else "no group"
            others = host.group_of(d)
            yield fold(f"{d.address}  {d.kind:11} node {'-' if d.node is None else d.node}  "
                       f"{group:10} {d.driver or 'no driver'}"
                       + (f", with {', '.join(others)}" if others else ""), " " * 8, "  ")
    empty = sum(all(host.devices[a].bridge for a in s.devices) for s in host.smmus.values())
    if empty:
        yield f"and {empty} without PCI devices"
    yield ""
    yield fold("Name the devices that a guest is to have, and this plans the machine: "
               "smmuv3-plan ADDRESS...", "")


def device_report(host, devices, results):
    for device in devices:
        yield heading(f"{device.address} ({device.kind})")
        yield from result_lines(r for r in results if r.device == device.address)


def plan_report(plan, autos):
    machine, host = plan.machine, plan.host
    if plan.left_out:
        yield heading("Not in the plan")
        for address, why in plan.left_out.items():
            yield fold(f"{address}: {why}", "    ", "  ")
    if machine is None:
        return
    yield heading("The machine")
    for smmu in machine.smmus:
        bus = machine.bus(smmu.bus)
        node = ""
        if bus.node is not None:
            node = f", NUMA node {bus.node} (the host's {machine.nodes[bus.node].host})"
        yield fold(f"{smmu.id} on root complex {smmu.bus}, from bus {bus.number} on{node}; in "
                   f"the host {smmu.host}", "    ", "  ")
        for port in (p for p in machine.ports if p.bus == smmu.bus):
            device = next(d for d in machine.assigned if d.bus == port.id)
            real = host.devices[device.host]
            bars = ", ".join(f"{size_text(b.size)}{' I/O' if b.io else ''}"
                             f"{' 64-bit' if b.wide else ''}" for b in real.bars)
            yield fold(f"{device.id} {device.host} {real.kind}, below {port.id}; BARs: "
                       f"{bars or 'none'}", "        ", "    ")
        auto = ", ".join(f"{k} {v}" for k, v in sorted(autos[smmu.id].items())
                         if not v.startswith("as the host"))
        asks = [k for k, v in autos[smmu.id].items() if v.startswith("as the host")]
        yield fold("what is left out becomes: " + auto, "        ", "    ")
        if asks:
            yield fold(f"{', '.join(asks)}: as the host has it; --probe tells, as root, when "
                       "a VFIO driver has the device", "        ", "    ")
    if "highmem-mmio-size" in machine.options:
        yield fold(f"{machine.options['highmem-mmio-size']} of addresses for the BARs above "
                   "4 GiB (512G is usual)", "    ", "  ")


def notes(machine, xml):
    """What the reader has to put in."""
    if xml:
        yield "Put in your own name, disk, memory and CPUs; libvirt 12.7 or later reads it."
        if "{http" in xml or "qemu:override" in xml:
            yield ("libvirt has no attribute for windows of a port above 4 GiB, so that they "
                   "stand in qemu:override.")
    else:
        yield ("Put in your own disk. vars.fd is a copy of AAVMF_VARS.fd, which the guest's "
               "firmware writes to.")
    if any(n.host is not None for n in machine.nodes):
        yield "--no-bind leaves out which of the host's memory each node takes."


def findings_report(machine, findings):
    yield heading(f"The {machine.source}").lstrip("\n")
    yield (f"  SMMUs: {len(machine.smmus)}, root complexes: {len(machine.buses)}, "
           f"assigned devices: {len(machine.assigned)}")
    for one in machine.doubts:
        yield fold(f"not read: {one}", "    ", "  ")
    for one in findings:
        yield ""
        yield fold(f"{one.rule}: {one.text}", " " * 9, f"{one.verdict:8} ")
        yield fold("-> " + one.remedy, " " * 12, " " * 9)
        yield fold(f"(from {one.origin})", " " * 12, " " * 9)
    if not any(f.verdict == "wrong" for f in findings):
        yield "\nno rule is broken"
