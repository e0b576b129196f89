"""VFIO inside the guest: L2 gives its disk to a driver in user space, or to a guest of its own.

SPDX-License-Identifier: GPL-2.0-or-later
"""

import array
import contextlib
import os
import re
import shlex

from bed import Failure, bind

BLOCK = 4096
WORD = 1 << 64


def address(guest, node):
    """The PCI address in L2 of the disk with the block device NODE."""
    return guest.shell.run('basename $(readlink -f /sys/block/%s/device/device)'
                           % os.path.basename(node))


@contextlib.contextmanager
def released(guest, node):
    """The disk is bound to L2's vfio-pci, and then to its own driver again; its address."""
    device = address(guest, node)
    bind(guest.shell, device, 'vfio-pci')
    yield device
    bind(guest.shell, device)


def read(guest, disk, device, how, reads, vectors=2, notes=None, peer=''):
    """The driver in user space reads from DISK, whose address in L2 is DEVICE; how many commands
    it gave, and how many of them had no interrupt.  HOW, VECTORS, PEER: as in vfio-nvme.c."""
    disk.fill(0, reads * BLOCK)
    with open(disk.path, 'rb') as f:
        want = sum(array.array('Q', f.read(reads * BLOCK))) % WORD
    out = guest.shell.run('vfio-nvme %s %s %d %d %s' % (how, device, reads, vectors, peer), 300,
                          ok=False)
    match = re.search(r'(\d+) commands, (\d+) interrupts, (\d+) lost, (\d+) refused, sum (\w+)',
                      out)
    if not match:
        raise Failure('%s: %s' % (how, out))
    if notes is not None:
        notes.append(out.splitlines()[0])
    commands, interrupts, lost, refused = map(int, match.groups()[:4])
    if commands != interrupts + lost:
        raise Failure('%d interrupts for %d commands' % (interrupts, commands))
    if not lost and int(match[5], 16) != want:
        raise Failure('it has read the sum %s, but %016x is on the disk' % (match[5], want))
    if refused != (reads // 10 if peer else 0):
        raise Failure('%d writes into a BAR that was off: %s' % (refused, out))
    return commands, lost


def make_initrd(l1, inner, path):
    """An initrd at PATH in L1: that of L2, with the QEMU in /inner/INNER and all that L3 boots."""
    l1.run('cp /boot/l2.cpio {1}; (cd / && find boot/Image boot/l2.cpio inner/{0} |'
           ' sed "1i boot\\ninner" | cpio -o -H newc) >> {1}'.format(inner, path), 120)


class Third:
    """L3, a guest of L2 under TCG, with the disk at DEVICE in L2; a context manager.  Its QEMU is
    that of make_initrd()."""

    def __init__(self, guest, inner, device):
        self.shell = guest.shell
        inner = '/inner/' + inner
        self.args = [
            inner + '/ld.so', '--library-path', inner, inner + '/qemu-system-aarch64',
            '-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio',
            '-machine', 'virt,gic-version=3', '-accel', 'tcg', '-cpu', 'cortex-a72', '-m', '256',
            '-kernel', '/boot/Image', '-initrd', '/boot/l2.cpio',
            '-append', 'console=ttyAMA0 quiet', '-device', 'vfio-pci,host=' + device]

    def __enter__(self):
        command = ' '.join(shlex.quote(a) for a in self.args)
        self.shell.run('cd /tmp; mkfifo l3.in; echo %s > l3.sh\n'
                       '(sh l3.sh < l3.in > l3.out 2>&1; echo $? > l3.status) & exec 3> l3.in'
                       % shlex.quote('echo $$ > l3.pid; exec ' + command))
        self.wait('L2: ready', 400, 'boot of L3')
        return self

    def __exit__(self, *unused):
        self.shell.run('exec 3>&-; kill $(cat l3.pid);'
                       ' until [ -e l3.status ]; do usleep 50000; done', ok=False)

    def wait(self, text, timeout, what):
        """Wait until L3 prints a line that is TEXT."""
        try:
            self.shell.wait('grep -q "^%s" l3.out || [ -e l3.status ]' % text, timeout,
                            what)
        except Failure as failure:
            raise Failure('%s: %s' % (failure, self.output()))
        if '\n' + text not in '\n' + self.output():
            raise Failure('%s: %s' % (what, self.output()))

    def output(self):
        return self.shell.run('tail -c 1500 l3.out', ok=False)

    def run(self, command, timeout):
        """What COMMAND prints in L3's shell."""
        self.shell.run("echo '{ %s; }; echo do\"\"ne' >&3" % command)
        self.wait('done', timeout, command)
        out = self.output()
        self.shell.run('> l3.out')
        return out.replace('\r', '')
