"""QEMU's command line: writes one for a machine, and reads one."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import re
import shlex

from .host import full_address
from .machine import (MIB, Assigned, Machine, Node, Other, Port, RootBus, Smmu, size_of,
                      size_text)

FIRMWARE = "/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd"
WIDTH = 80
PORTS = ("pcie-root-port", "ioh3420", "pcie-pci-bridge", "pci-bridge", "x3130-upstream",
         "xio3130-downstream", "i82801b11-bridge")
# What has no place on a PCI bus, though -device makes it
NOT_PCI = re.compile(r"(arm-smmuv3|.*-device|nvme-(ns|subsys)|virtio-p?mem|virtserialport|"
                     r"virtconsole|"
                     r"(usb|scsi|ide|sd|isa|nvdimm|pc-dimm|vmcoreinfo|pvpanic|ramfb|tpm)(-.*)?)$")
PCI_AFTER_ALL = re.compile(r"(usb-ehci|.*-usb-xhci|ich9-usb.*|pci-ohci|pvpanic-pci|.*scsi.*-pci)$")
# What of an SMMU is a bool, and what qapi_bool_parse() takes for on and off
SWITCHES = ("accel", "share-stage2", "s2fwb")
ON_OFF = {"yes": "on", "true": "on", "y": "on", "no": "off", "false": "off", "n": "off"}


# --- writing -----------------------------------------------------------------

def join(driver, **options):
    words = [driver] + [f"{k.replace('_', '-') if k != 'bus_nr' else k}={v}"
                        for k, v in options.items() if v is not None]
    return ",".join(words)


def arguments(machine, bind=True):
    """The command line, a list of lists: an option and its values."""
    options = dict(machine.options)
    lines = [["-machine", ",".join([options.pop("type"),
                                    *(f"{k}={v}" for k, v in options.items())])],
             ["-accel", "kvm", "-cpu", "host", "-smp", smp(machine),
              "-m", size_text(machine.memory)],
             ["-nographic", "-nic", "none"],
             ["-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}"],
             ["-drive", "if=pflash,format=raw,file=vars.fd"],
             *numa(machine, bind)]
    lines += [["-object", f"iommufd,id={name}"] for name in machine.iommufds]
    for smmu in machine.smmus:
        bus = machine.bus(smmu.bus)
        if bus.id != "pcie.0":
            node = f",numa_node={bus.node}" if bus.node is not None else ""
            lines.append(["-device", join("pxb-pcie", id=bus.id, bus="pcie.0",
                                          bus_nr=bus.number) + node])
        lines.append(["-device", join("arm-smmuv3", primary_bus=smmu.bus, id=smmu.id,
                                      accel="on" if smmu.accel else "off", **smmu.properties)])
        for port in (p for p in machine.ports if p.bus == bus.id):
            reserves = {Port.RESERVES[k]: size_text(v) if k != "bus" else v
                        for k, v in port.reserve.items()}
            lines.append(["-device", join(port.kind, id=port.id, bus=port.bus,
                                          chassis=port.chassis, **reserves)])
            for device in (d for d in machine.assigned if d.bus == port.id):
                lines += assigned(device)
    return lines + [["-drive", "if=none,id=disk,format=qcow2,file=guest.qcow2"],
                    ["-device", "virtio-blk-pci,drive=disk,bus=pcie.0"]]


def smp(machine):
    """CPUs, with a socket for each NUMA node that has some: QEMU warns otherwise."""
    sockets = machine.sockets
    return f"{machine.cpus},sockets={sockets}" if sockets else str(machine.cpus)


def assigned(device):
    yield ["-device", join("vfio-pci", host=device.host, id=device.id, iommufd=device.iommufd,
                           bus=device.bus, **device.properties)]
    for node in device.initiators:
        yield ["-object", f"acpi-generic-initiator,id=gi{node},pci-dev={device.id},node={node}"]


def numa(machine, bind):
    for n, node in enumerate(machine.nodes):
        if not node.memory:
            yield ["-numa", f"node,nodeid={n}"]
            continue
        place = f",host-nodes={node.host},policy=bind" if bind and node.host is not None else ""
        yield ["-object", f"memory-backend-ram,id=ram{n},size={size_text(node.memory)}{place}"]
        cpus = f",cpus={node.cpus[0]}-{node.cpus[-1]}" if node.cpus else ""
        yield ["-numa", f"node,nodeid={n}{cpus},memdev=ram{n}"]


def words(machine, bind=True):
    return [word for line in arguments(machine, bind) for word in line]


def write(machine, bind=True):
    """The command line as text for a shell, in lines of up to 80 columns.

    A word that is too long is cut behind a comma: a backslash at the end of a line
    joins it with the next one.
    """
    lines, indent = [], "    "
    for line in arguments(machine, bind):
        text = indent + " ".join(shlex.quote(word) for word in line)
        while len(text) > WIDTH - 2:
            cut = text.rfind(",", 0, WIDTH - 2)
            if cut < 0:
                break
            lines.append(text[:cut + 1])
            text = text[cut + 1:]
        lines.append(text + " ")
    return "qemu-system-aarch64 \\\n" + "\\\n".join(lines).rstrip()


# --- reading -----------------------------------------------------------------

class BadInput(Exception):
    """Why it cannot be read."""


def split_options(text):
    """(first word, options) of a value like driver,a=b,c; `,,` is a comma."""
    parts = [p.replace("\0", ",") for p in text.replace(",,", "\0").split(",")]
    first, options = "", {}
    for n, part in enumerate(parts):
        name, equals, value = part.partition("=")
        if not equals and n == 0:
            first = part
        elif name:
            options[name] = value if equals else "on"
    return first, options


def device_options(text):
    """(driver, options) of the value of -device, which can be JSON; all are text."""
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
            driver = found.pop("driver", "")
        except (ValueError, AttributeError) as e:
            raise BadInput(f"-device {text[:40]}: {e}") from None
        return str(driver), {k: {True: "on", False: "off"}[v] if isinstance(v, bool) else str(v)
                             for k, v in found.items()}
    first, options = split_options(text)
    return first or options.pop("driver", ""), options


def tokens(text):
    """Options with their values, of a shell's text: [(name, value)]."""
    text = re.sub(r"\\\r?\n", "", text)
    text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    try:
        parts = shlex.split(text)
    except ValueError as e:
        raise BadInput(f"the shell's quotes do not match: {e}") from None
    for n, part in enumerate(parts):
        if "qemu-system" in part or part.endswith("qemu-kvm"):
            parts = parts[n + 1:]
            break
    found = pairs(parts)
    if not found:
        raise BadInput("this is neither a command line of QEMU nor an XML of libvirt")
    return found


def pairs(parts):
    """Options with their values, of words."""
    found = []
    for part in parts:
        if re.match(r"--?[A-Za-z]", part):
            found.append(["-" + part.lstrip("-"), None])
        elif found and found[-1][1] is None:
            found[-1][1] = part
    return [(name, value or "") for name, value in found]


def number(options, name, doubts, default=None):
    text = options.get(name)
    if text is None:
        return default
    try:
        return int(text, 0)
    except (TypeError, ValueError):
        doubts.append(f"{name}={text} is no number")
        return default


def read(text):
    machine = Machine(source="command line", firmware=False, default_nic=True,
                      options={"type": ""})
    found = tokens(text)
    machine.doubts += [f"{name} {value}: a shell variable, which is not known here"
                       for name, value in found if "$" in value]
    read_options(machine, found)
    return machine


def settings(found):
    """What -global sets: {driver: {property: value}}."""
    result = {}
    for _, value in (f for f in found if f[0] == "-global"):
        driver, _, rest = value.partition(".")
        prop, _, text = rest.partition("=")
        result.setdefault(driver, {})[prop] = text
    return result


def read_options(machine, found):
    """Add to MACHINE what options say, of pairs()."""
    globals_, devices, backends = settings(found), [], {}
    for name, value in found:
        if name in ("-machine", "-M"):
            first, options = split_options(value)
            options.setdefault("type", first or machine.options["type"])
            machine.options.update({k: ON_OFF.get(v, v) if k == "its" else v
                                    for k, v in options.items()})
        elif name == "-device":
            devices.append(device_options(value))
        elif name == "-object":
            read_object(machine, value, backends)
        elif name == "-numa":
            read_numa(machine, value, backends)
        elif name in ("-nodefaults", "-nic", "-net", "-netdev"):
            # default_net of system/vl.c; a -device does not change it
            machine.default_nic = False
            if name == "-nic" and value.split(",")[0] != "none":
                machine.others.append(Other("-nic", "a NIC of -nic", "pcie.0"))
        elif name == "-bios" or name == "-drive" and "if=pflash" in value or \
                name == "-blockdev" and "pflash" in value:
            machine.firmware = True
        elif name in ("-readconfig", "-set"):
            machine.doubts.append(f"{name} is not read")
        elif name == "-m":
            first, options = split_options(value)
            machine.memory = memory_of(options.get("size", first), machine)
    if any(o.startswith("pflash") for o in machine.options):
        machine.firmware = True
    for driver, options in devices:
        read_device(machine, driver, {**globals_.get(driver, {}), **options})


def memory_of(text, machine):
    try:
        return size_of(text, MIB)
    except ValueError as e:
        machine.doubts.append(f"-m: {e}")
        return None


def read_object(machine, value, backends):
    kind, options = device_options(value.replace('"qom-type"', '"driver"')
                                   if value.lstrip().startswith("{") else value)
    if kind == "iommufd":
        machine.iommufds.append(options.get("id"))
    elif kind == "acpi-generic-initiator":
        machine.doubts += [] if "node" in options else ["acpi-generic-initiator has no node="]
    elif kind.startswith("memory-backend"):
        host = options.get("host-nodes")
        backends[options.get("id")] = (options.get("size", "0"),
                                       number({"host-nodes": host} if str(host).isdigit() else {},
                                              "host-nodes", machine.doubts))


def read_numa(machine, value, backends):
    kind, options = split_options(value)
    if kind != "node":
        return
    node, (size, host) = Node(), backends.get(options.get("memdev"), ("0", None))
    try:
        node.memory, node.host = size_of(size), host
    except ValueError as e:
        machine.doubts.append(f"-object memory-backend: {e}")
    machine.nodes.append(node)


def read_smmu(name, bus, options):
    """An SMMU with properties, as QEMU reads them.  An accel= that is neither on nor off
    stays one of them."""
    properties = {k: ON_OFF.get(v, v) if k in SWITCHES else v for k, v in options.items()}
    accel = properties.get("accel", "off")
    if accel in ("on", "off"):
        properties.pop("accel", None)
    return Smmu(name, bus, accel != "off", properties)


def read_device(machine, driver, options):
    name, bus, doubts = options.get("id"), options.get("bus", "pcie.0"), machine.doubts
    if driver == "pxb-pcie":
        machine.buses.append(RootBus(name or f"pxb {len(machine.buses)}",
                                     number(options, "bus_nr", doubts, 0),
                                     number(options, "numa_node", doubts)))
    elif driver == "arm-smmuv3":
        machine.smmus.append(read_smmu(name or f"arm-smmuv3 on {options.get('primary-bus')}",
                                     options.get("primary-bus"),
                                     {k: v for k, v in options.items()
                                      if k not in ("primary-bus", "id")}))
    elif driver in PORTS:
        port = Port(name or f"{driver} {len(machine.ports)}", bus, driver,
                    chassis=number(options, "chassis", doubts, 0),
                    number=number(options, "slot", doubts, 0) or 0)
        for key, word in Port.RESERVES.items():
            try:
                if word in options:
                    port.reserve[key] = size_of(options[word])
            except ValueError as e:
                doubts.append(f"{port.id}: {word}: {e}")
        machine.ports.append(port)
    elif driver in ("vfio-pci", "vfio-pci-nohotplug"):
        known = ("host", "id", "bus", "iommufd", "addr", "multifunction")
        machine.assigned.append(Assigned(
            name or f"vfio-pci {options.get('host') or options.get('fd') or ''}".strip(), bus,
            full_address(options.get("host", "")) or options.get("host"), options.get("iommufd"),
            {k: v for k, v in options.items() if k not in known}))
    elif not driver:
        doubts.append("a -device without a driver")
    elif PCI_AFTER_ALL.match(driver) or not NOT_PCI.match(driver):
        machine.others.append(Other(name or driver, driver, bus))
