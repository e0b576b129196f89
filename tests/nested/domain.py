# libvirt in L1 of the nested bed: its own daemon for arm64 (tests/libvirt/root) starts a
# guest of the QEMU under test, from an example in docs/.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import contextlib
import os
import re
import shlex
import time
import xml.etree.ElementTree as ET

from bed import Guest, Shell, bind

EXAMPLE = os.path.join(os.path.dirname(os.path.realpath(__file__)),
                       '../../docs/system/arm/smmuv3-libvirt.xml')
ROOT = '/libvirt'
EMULATOR = '/usr/bin/qemu-system-aarch64'
# The directories that the daemon and its QEMU share with L1
SHARED = 'boot', 'dev', 'inner', 'proc', 'sys', 'tmp'


def source(address):
    """An address of PCI as libvirt writes it"""
    domain, bus, slot, function = re.split('[:.]', address)
    return {'domain': '0x' + domain, 'bus': '0x' + bus, 'slot': '0x' + slot,
            'function': '0x' + function}


class Domain:
    """A domain of libvirt in a slot of L1; used in place of a bed.Guest."""

    def __init__(self, slot, inner):
        self.slot = slot
        self.l1 = slot.shell
        self.inner = inner
        self.shell = Shell(slot.serial, 'L2')
        self.interfaces = []

    @contextlib.contextmanager
    def daemon(self):
        """libvirtd, and nothing of it is left afterwards"""
        mounts = ' '.join(SHARED)
        wrapper = ('#!/bin/sh\\nexec /inner/{0}/ld.so --library-path /inner/{0}'
                   ' /inner/{0}/qemu-system-aarch64 "$@"\\n'.format(self.inner))
        self.l1.run('cd %s; mkdir -p %s lib/modules/$(uname -r)\n'
                    'for d in run var; do mount -t tmpfs tmpfs $d; done\n'
                    'mkdir -p run/libvirt var/lib/libvirt var/log/libvirt var/cache/libvirt\n'
                    'for d in %s; do mount -o bind /$d $d; done\n'
                    'ln -sfn /run var/run; echo > lib/modules/$(uname -r)/modules.alias\n'
                    "printf '%s' > .%s; chmod +x .%s"
                    % (ROOT, mounts, mounts, wrapper, EMULATOR, EMULATOR))
        self.l1.run("(LC_ALL=C PATH=/usr/sbin:/usr/bin setsid chroot %s libvirtd"
                    " > %s/libvirtd.log 2>&1 < /dev/null & echo $! > %s/libvirtd.pid)"
                    % (ROOT, self.slot.dir, self.slot.dir))
        try:
            self.l1.wait('chroot %s virsh list > /dev/null 2>&1' % ROOT, 120, 'libvirtd')
            yield self
        finally:
            self.l1.run('chroot {0} virsh destroy test; kill $(cat {1}/libvirtd.pid);'
                        ' sleep 1; tail -n 20 {1}/libvirtd.log; for d in run var {2}; do'
                        ' umount {0}/$d; done'.format(ROOT, self.slot.dir, mounts), 60, ok=False)

    def virsh(self, command, timeout=120):
        return self.l1.run('LC_ALL=C PATH=$PATH:/usr/bin chroot %s virsh %s' % (ROOT, command),
                           timeout)

    def write(self, name, element):
        """A file for virsh; return its name"""
        path = '%s/%s' % (self.slot.dir, name)
        self.l1.run("printf '%%s' %s > %s"
                    % (shlex.quote(ET.tostring(element, encoding='unicode')), path))
        return path

    def define(self, disk):
        """The example, with DISK as its device and a kernel to boot"""
        root = ET.parse(EXAMPLE).getroot()
        root.find('name').text = 'test'
        root.find('vcpu').text = '1'
        root.find('memory').text = '256'
        root.find('memory').set('unit', 'MiB')
        for name, text in (('kernel', '/boot/Image'), ('initrd', '/boot/l2.cpio'),
                           ('cmdline', 'console=ttyAMA0 quiet iommu.passthrough=0')):
            ET.SubElement(root.find('os'), name).text = text
        devices = root.find('devices')
        devices.find('emulator').text = EMULATOR
        # what the emulated host has
        devices.find('iommu/driver').attrib.clear()
        devices.find('iommu/driver').attrib.update(pciBus='1', accel='on')
        devices.remove(devices.find('console'))
        devices.remove(devices.find('serial'))
        serial = ET.SubElement(devices, 'serial', type='dev')
        ET.SubElement(serial, 'source', path='/dev/hvc%d' % (3 * self.slot.number + 1))
        hostdev = devices.find('hostdev')
        address = hostdev.find('source/address')
        address.attrib.clear()
        address.attrib.update(source(disk.address))
        self.hostdev = self.write('hostdev.xml', hostdev)
        self.virsh('define %s --validate' % self.write('domain.xml', root))

    def start(self):
        self.slot.serial.drop()
        self.started = time.monotonic()
        self.virsh('start test')

    def booted(self):
        self.slot.serial.expect('L2: ready', 120, 'boot of L2')
        return '%.1f s' % (time.monotonic() - self.started)

    def driver(self, disk):
        """The driver of DISK in L1"""
        return self.l1.run('basename $(readlink /sys/bus/pci/devices/%s/driver)' % disk.address)

    def wait_driver(self, disk, name):
        self.l1.wait('[ "$(basename $(readlink /sys/bus/pci/devices/%s/driver))" = %s ]'
                     % (disk.address, name), 60, '%s with driver %s' % (disk.serial, name))

    def release(self, disk):
        """Give DISK the driver that it had before the bed took it"""
        bind(self.l1, disk.address)
        self.wait_driver(disk, 'nvme')

    def command_line(self):
        """The arguments of the QEMU that libvirt has started"""
        return self.l1.run("tr '\\0' '\\n' < /proc/$(cat %s/run/libvirt/qemu/test.pid)/cmdline"
                           % ROOT)

    interrupts = Guest.interrupts
