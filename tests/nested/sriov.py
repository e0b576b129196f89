"""A NIC of L0 with virtual functions, which L1's driver makes and L2 gets.

SPDX-License-Identifier: GPL-2.0-or-later
"""

import os
import random
import re
import socket
import time

from bed import Failure, bind, find

ETHERTYPE = b'\x88\xb5'     # as in frames.c
MAC = b'\x02\x00\x00\x00\x00\x01'
WINDOW = 8                  # frames that are on their way
PATIENCE = 20               # seconds

# For the outer machine.  This program has the other end of the NIC's wire.
NIC = ['-netdev', 'dgram,id=wire,local.type=unix,local.path=@DIR@/nic,'
       'remote.type=unix,remote.path=@DIR@/wire',
       '-device', 'pcie-root-port,id=nic,bus=pcie.0,chassis=64,addr=0x10',
       '-device', 'igb,netdev=wire,bus=nic']


class Wire:
    """The NIC's wire, and a station at its other end; a context manager."""

    def __init__(self, outer):
        self.directory = outer.dir

    def __enter__(self):
        path = os.path.join(self.directory, 'wire')
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(path)
        self.sock.connect(os.path.join(self.directory, 'nic'))
        return self

    def __exit__(self, *unused):
        self.sock.close()
        os.unlink(os.path.join(self.directory, 'wire'))

    def exchange(self, mac, count):
        """Send COUNT frames to MAC, where `frames echo` runs.  Each must come back once, in
        order, with the complement of its contents."""
        expected = []
        sent = 0
        end = time.monotonic() + PATIENCE
        received = 0
        while received < count:
            while sent < count and len(expected) < WINDOW:
                payload = os.urandom(random.randint(46, 1500))
                self.sock.send(mac + MAC + ETHERTYPE + payload)
                expected.append(bytes(b ^ 0xff for b in payload))
                sent += 1
                end = time.monotonic() + PATIENCE
            self.sock.settimeout(max(0.01, end - time.monotonic()))
            try:
                frame = self.sock.recv(2048)
            except TimeoutError:
                raise Failure('%d of %d frames came back to the wire' % (received, sent))
            if frame[:6] != MAC or frame[12:14] != ETHERTYPE:
                continue
            if frame[6:12] != mac or frame[14:] != expected.pop(0):
                raise Failure('frame %d came back with other contents: %s...'
                              % (received, frame[:64].hex()))
            received += 1


class Function:
    """A virtual function: number N of the NIC, at ADDRESS in L1."""

    def __init__(self, n, address):
        self.id = 'vf%d' % n
        self.address = address

    def arguments(self, bus, options=''):
        return ['-device', 'vfio-pci,id=%s,host=%s,iommufd=iommufd0,bus=%s%s'
                % (self.id, self.address, bus, options and ',' + options)]


class Nic:
    """The physical function, driven by L1."""

    def __init__(self, l1):
        self.l1 = l1
        address = find(l1, 0x8086, 0x10c9)
        if not address:
            raise Failure('L1 has no such NIC')
        self.sys = '/sys/bus/pci/devices/' + address
        self.interface = l1.run('ls %s/net' % self.sys)

    def up(self):
        self.l1.run('ip link set %s up' % self.interface)

    def down(self):
        self.l1.run('ip link set %s down' % self.interface)

    def make(self, count):
        """COUNT virtual functions, bound to vfio-pci, each alone in its IOMMU group."""
        self.l1.run('cd %s; echo 0 > sriov_drivers_autoprobe; echo %d > sriov_numvfs'
                    % (self.sys, count), 60)
        out = self.l1.run('cd %s; for v in $(seq 0 %d); do basename $(readlink virtfn$v); done'
                          % (self.sys, count - 1))
        functions = [Function(n, address) for n, address in enumerate(out.split())]
        for function in functions:
            bind(self.l1, function.address, 'vfio-pci')
            self.l1.run('[ -d /sys/bus/pci/devices/%s/vfio-dev ]' % function.address)
            out = self.l1.run('ls /sys/bus/pci/devices/%s/iommu_group/devices' % function.address)
            if out != function.address:
                raise Failure('the IOMMU group of %s: %s' % (function.address, out))
        return functions

    def remove(self):
        """Begin to remove all functions, as an admin does; removed() waits for the end."""
        self.l1.run('(echo 0 > %s/sriov_numvfs; echo $? > /tmp/numvfs) &' % self.sys)

    def removed(self, timeout=60):
        self.l1.wait('[ -s /tmp/numvfs ]', timeout, 'the end of the virtual functions')
        status = self.l1.run('cat /tmp/numvfs; rm /tmp/numvfs; ls -d %s/virtfn* 2>/dev/null || true'
                             % self.sys)
        if status != '0':
            raise Failure('sriov_numvfs: status, and what is left: ' + status)


def places(guest):
    """The address of each device of the machine that has an id, as the guest has numbered it."""
    found = {}

    def walk(devices):
        for device in devices:
            found[device['qdev_id']] = '0000:%02x:%02x.%d' % (
                device['bus'], device['slot'], device['function'])
            walk(device.get('pci_bridge', {}).get('devices', []))

    for bus in guest.qmp.command('query-pci'):
        walk(bus['devices'])
    return found


class Port:
    """The guest's network interface of FUNCTION, with a carrier."""

    def __init__(self, guest, function, timeout=60):
        self.guest = guest
        self.shell = guest.shell
        self.device = '/sys/bus/pci/devices/' + places(guest)[function.id]
        self.shell.wait('[ -d %s/net ]' % self.device, timeout, function.id + ' in the guest')
        self.name = self.shell.run('ls %s/net' % self.device)
        self.mac = bytes.fromhex(self.shell.run(
            'cat /sys/class/net/%s/address' % self.name).replace(':', ''))
        self.up()

    def up(self, timeout=60):
        self.shell.run('ip link set %s up' % self.name)
        self.carrier(timeout)

    def carrier(self, timeout=60):
        self.shell.wait('[ "$(cat /sys/class/net/%s/carrier 2>/dev/null)" = 1 ]' % self.name,
                        timeout, 'a carrier of ' + self.name)

    def down(self):
        self.shell.run('ip link set %s down' % self.name)

    def state(self):
        """For a person who looks for a fault."""
        return self.shell.run('ifconfig {0}; grep {0}- /proc/interrupts; dmesg | tail -n 5'
                              .format(self.name), ok=False)

    def interrupts(self):
        return self.guest.interrupts('ITS-PCI-MSIX.* %s-' % self.name)


def swap(a, b, count, notes):
    """Frames between two ports of one guest, by the NIC's own switch."""
    start = time.monotonic()
    before = [a.interrupts(), b.interrupts()]
    a.shell.run('frames swap %s %s %d' % (a.name, b.name, count), 200)
    irqs = [a.interrupts() - before[0], b.interrupts() - before[1]]
    if not all(irqs):
        raise Failure('no MSI-X came through the ITS: %s' % irqs)
    notes.append('%s and %s: %d frames each way, %s MSI-X, %.1f s'
                 % (a.name, b.name, count, ' and '.join(map(str, irqs)),
                    time.monotonic() - start))


def echo(port, wire, count, notes):
    """Frames from the wire to a port of the guest, and back."""
    out = '/tmp/echo-' + port.name
    before = port.interrupts()
    port.shell.run('(frames echo %s %d > %s 2>&1; echo $? >> %s) &' % (port.name, count, out, out))
    port.shell.wait('grep -q ready ' + out, 20, 'frames echo')
    try:
        wire.exchange(port.mac, count)
    except Failure as failure:
        raise Failure('%s: %s: %s' % (port.name, failure, port.state()))
    port.shell.wait('grep -qx "[0-9]*" ' + out, 40, 'end of frames echo')
    text = port.shell.run('cat ' + out)
    if not re.search(r': %d sent, %d received\n0$' % (count, count), text):
        raise Failure('frames echo: ' + text)
    irqs = port.interrupts() - before
    if not irqs:
        raise Failure('no MSI-X came through the ITS')
    notes.append('%s: %d frames from the wire and back, %d MSI-X' % (port.name, count, irqs))
