"""From devices of a host to a machine: one root complex and SMMU per physical SMMU."""
# SPDX-License-Identifier: GPL-2.0-or-later

from .checks import blocking
from .machine import (MIB, Assigned, Machine, Node, Port, RootBus, Smmu, mmio_size_for,
                      size_text, windows)

MOST_SMMUS = 16             # virt's platform bus has 64 interrupts, an SMMUv3 needs four
MOST_PORTS = 32             # slots of a root bus
LAST_BUS = 255
# Devices whose memory the guest sees as NUMA nodes: drivers/vfio/pci/nvgrace-gpu/main.c.
# The GPU has up to 8 partitions, each with a node of its own.
COHERENT_GPUS = {(0x10de, d) for d in (0x2342, 0x2345, 0x2348, 0x2941, 0x31c2)}
PARTITIONS = 8


def coherent(device):
    return (device.vendor, device.device) in COHERENT_GPUS


class CannotPlan(Exception):
    """Why there is no plan."""


class Plan:
    """A machine, and what was left out of it."""

    def __init__(self, host, addresses, memory, cpus):
        self.host = host
        self.left_out = {}          # address: why
        devices = []
        for address in dict.fromkeys(addresses):
            device = host.devices.get(address)
            why = blocking(host, device) if device else "the host has no such device"
            if why:
                self.left_out[address] = why
            else:
                devices.append(device)
        self.devices = devices
        self.machine = self._machine(memory, cpus) if devices else None

    def _machine(self, memory, cpus):
        machine = Machine(iommufds=["iommufd0"], memory=memory, cpus=cpus,
                          options={"type": "virt", "gic-version": "3"})
        groups = {}
        for device in sorted(self.devices, key=lambda d: d.address):
            groups.setdefault(device.smmu, []).append(device)
        if len(groups) > MOST_SMMUS:
            raise CannotPlan(f"these devices are behind {len(groups)} physical SMMUs, and a "
                             f"machine can have {MOST_SMMUS}: name fewer devices")
        for name, devices in groups.items():
            if len(devices) > MOST_PORTS:
                raise CannotPlan(f"{len(devices)} devices are behind {name}, and a root "
                                 f"complex has {MOST_PORTS} slots: name fewer devices")
        guest_node = self._nodes(machine)
        numbers = self._bus_numbers([len(d) for d in groups.values()])
        needs = []
        for n, (name, devices) in enumerate(groups.items(), 1):
            bus, nodes = f"pcie.{n}", [d.node for d in devices]
            node = max(set(nodes), key=nodes.count)
            machine.buses.append(RootBus(bus, numbers[n - 1], guest_node.get(node)))
            machine.smmus.append(Smmu(f"smmu{n}", bus, host=name))
            needs.append([self._assign(machine, bus, slot, device)
                          for slot, device in enumerate(devices)])
        size = mmio_size_for(needs)
        if size > machine.mmio_size:
            machine.options["highmem-mmio-size"] = size_text(size)
        return machine

    @staticmethod
    def _bus_numbers(ports):
        """A bus_nr for each root complex.  A port takes two numbers: its own and one in
        reserve, for a switch that is plugged."""
        least = [1 + 2 * n for n in ports]
        step = 256 // (len(ports) + 1) // 4 * 4
        if step >= max(least):
            return [step * n for n in range(1, len(ports) + 1)]
        if sum(least) > LAST_BUS - 8:
            raise CannotPlan(f"{sum(ports)} devices need more than the 256 bus numbers that a "
                             "machine has: name fewer devices")
        numbers, number = [], LAST_BUS + 1
        for need in reversed(least):
            number -= need
            numbers.insert(0, number)
        return numbers

    def _nodes(self, machine):
        """NUMA nodes, if the host has several or a GPU has memory for the guest; returns
        the guest's node for each of the host."""
        used = sorted({d.node for d in self.devices if d.node is not None})
        if not used or len(self.host.nodes) < 2 and not any(map(coherent, self.devices)):
            return {}
        count = len(used)
        share = machine.memory // MIB // count * MIB
        for n, node in enumerate(used):
            cpus = [c for c in range(machine.cpus) if c * count // machine.cpus == n]
            machine.nodes.append(Node(share, cpus, node))
        machine.nodes[0].memory += machine.memory - share * count
        return {node: n for n, node in enumerate(used)}

    def _assign(self, machine, bus, slot, device):
        """Put DEVICE below a port of its own; returns what it needs above 4 GiB."""
        io, low, high = windows(device.bars)
        reserve = {"bus": 1, "io": io, "mem": low, "pref64": high}
        number = len(machine.ports) + 1
        machine.ports.append(Port(
            f"port{number}", bus, slot=slot, chassis=number,
            reserve={k: v for k, v in reserve.items() if v or k == "io"}))
        assigned = Assigned(f"dev{number}", f"port{number}", device.address, "iommufd0")
        if coherent(device) and machine.nodes:
            first = len(machine.nodes)
            assigned.initiators = list(range(first, first + PARTITIONS))
            machine.nodes += [Node() for _ in range(PARTITIONS)]
        machine.assigned.append(assigned)
        return high

    # --- what auto becomes ---------------------------------------------------

    def autos(self, answers):
        """For each SMMU: what QEMU makes of each property that is left out.

        ANSWERS: of probe.ask(), by address.
        """
        result = {}
        for n, smmu in enumerate(self.machine.smmus):
            physical = self.host.smmus[smmu.host]
            mine = [d for d in self.devices if d.smmu == smmu.host]
            found = [answers[d.address] for d in mine if d.address in answers]
            auto = result[smmu.id] = {
                # choose_identifiers(): ascending bus numbers, and the ITS has 0
                "identifier": str(n + 1),
                "ats": ats(self.host, mine, answers),
                "cmdqv": "off" + (" (the host has one: cmdqv=on uses it)"
                                  if physical.cmdqv else ""),
            }
            for name in "ril", "ssidsize", "oas":
                auto[name] = "as the host has it; --probe tells" if not found else {
                    "ril": lambda: "on" if all(a.get("ril") for a in found) else "off",
                    "ssidsize": lambda: str(min(20, *(a.get("ssidsize") for a in found))),
                    "oas": lambda: oas(found),
                }[name]()
        return result


def oas(answers):
    """smmuv3-accel-caps.c, oas_of(): the largest that the address bits allow."""
    bits = min((a.address_bits or 48 for a in answers))
    without_64k = not all(a.get("gran64k") for a in answers)
    sizes = [s for s in (32, 36, 40, 42, 44, 48, 52) if s <= bits]
    if without_64k:
        sizes = [s for s in sizes if s <= 48]
    return str(sizes[-1]) if sizes else "none"


def ats(host, devices, answers):
    """On if the host lets one device use it (smmuv3-accel-caps.c)."""
    known = []
    for device in devices:
        if device.address in answers:
            known.append(answers[device.address].ats)
        elif device.ats is False:
            known.append(False)
        else:
            complex_ = host.complex_of(device)
            known.append(False if complex_ and not complex_.ats else None)
    if any(known):
        return "on"
    return "off" if all(k is False for k in known) else "as the host has it; --probe tells"
