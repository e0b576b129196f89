# The machinery of the nested test bed: L0 is a QEMU for this computer (TCG,
# scripts/qemu outer) whose emulated SMMUv3 does both stages, L1 is Linux in it, and L2 the guest that the
# QEMU under test runs under KVM in L1.  tests/nested/run says what is tested.
#
# Everything is driven from here: L1 has, for each slot, three consoles on
# sockets (its shell, L2's serial port, L2's QMP), so that two guests with disks
# of their own can run at the same time.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import contextlib
import hashlib
import json
import os
import re
import shlex
import socket
import subprocess
import tempfile
import threading
import time

MIB = 1 << 20
DISKS_PER_SLOT = 2
DISK_SIZE = 64 * MIB
NULL_DISK_SIZE = 1024 * MIB
TURN = 50           # microseconds for one turn of each CPU of L1, if the CPUs take turns


class Failure(Exception):
    """Something did not happen as it should; the text says what."""


class Port:
    """One console of L1 on a UNIX socket: a growing buffer, and a log file."""

    def __init__(self, path, log):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.log = open(log, 'wb', buffering=0)
        self.data = b''
        self.pos = 0            # what expect() has consumed
        self.closed = False
        self.changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            try:
                chunk = self.sock.recv(65536)
            except OSError:
                chunk = b''
            with self.changed:
                self.data += chunk
                self.closed = not chunk
                self.changed.notify_all()
            if not chunk:
                return
            self.log.write(chunk)

    def send(self, text):
        self.sock.sendall(text.encode())

    def drop(self):
        """Forget what came in so far."""
        with self.changed:
            self.pos = len(self.data)

    def expect(self, pattern, timeout, what=None):
        """Wait for PATTERN after what was consumed; consume it, return the match."""
        pattern = re.compile(pattern.encode(), re.M)
        end = time.monotonic() + timeout
        with self.changed:
            while True:
                match = pattern.search(self.data, self.pos)
                if match:
                    self.pos = match.end()
                    return match
                left = end - time.monotonic()
                if left <= 0 or self.closed:
                    raise Failure('%s: %s' % (what or 'waiting for ' + repr(pattern.pattern),
                                              'outer machine is gone' if self.closed
                                              else 'nothing in %.0f s' % timeout))
                self.changed.wait(min(left, 1))


class Shell:
    """A busybox shell without echo at the other end of a port."""

    def __init__(self, port, name):
        self.port = port
        self.name = name
        self.count = 0

    def run(self, command, timeout=60, ok=None):
        """Run COMMAND; return its output.  A status other than 0 fails, unless OK is False."""
        self.count += 1
        mark = '@@%d@' % self.count
        # the shell puts the mark together, so that an echo of the command does not match
        self.port.send('{ %s\n} < /dev/null 2>&1; echo "@"@%d@$?@\n' % (command, self.count))
        start = self.port.pos
        match = self.port.expect(re.escape(mark) + r'(\d+)@', timeout,
                                 '%s: "%s"' % (self.name, command))
        out = self.port.data[start:match.start()].decode(errors='replace').replace('\r', '')
        status = int(match.group(1))
        if status and ok is not False:
            raise Failure('%s: "%s" gave status %d: %s' % (self.name, command, status,
                                                           out.strip()[-400:]))
        return out.strip('\n')

    def wait(self, command, timeout, what):
        """Run COMMAND until its status is 0."""
        end = time.monotonic() + timeout
        while True:
            out = self.run('if %s; then echo yes; else echo no; fi' % command, timeout)
            if out.endswith('yes'):
                return
            if time.monotonic() > end:
                raise Failure('%s: %s: not in %.0f s' % (self.name, what, timeout))
            time.sleep(0.2)


class Qmp:
    """QMP at the other end of a port."""

    def __init__(self, port):
        self.port = port
        self.events = []

    def connect(self, timeout, look):
        """Wait for the greeting and the first answer, calling LOOK now and then, which may
        raise a Failure."""
        end = time.monotonic() + timeout
        for pattern, answer in ((r'^\{"QMP".*\n', '{"execute": "qmp_capabilities"}\n'),
                                (r'^\{"return".*\n', '')):
            while True:
                try:
                    self.port.expect(pattern, 1, 'greeting of QMP')
                    self.port.send(answer)
                    break
                except Failure:
                    look()
                    if time.monotonic() > end:
                        raise

    def _message(self, timeout, what):
        return json.loads(self.port.expect(r'^\{.*\}\r?\n', timeout, what).group(0))

    def command(self, name, timeout=30, **arguments):
        """The return value of a command; an error is a Failure with its text."""
        self.port.send(json.dumps({'execute': name, 'arguments': arguments}) + '\n')
        while True:
            message = self._message(timeout, 'answer to ' + name)
            if 'event' in message:
                self.events.append(message)
            elif 'error' in message:
                raise Failure(message['error']['desc'])
            elif 'return' in message:
                return message['return']

    def refused(self, name, timeout=30, **arguments):
        """The error text of a command that must fail."""
        try:
            self.command(name, timeout, **arguments)
        except Failure as failure:
            return str(failure)
        raise Failure('%s %s was accepted' % (name, arguments))

    def hmp(self, line, timeout=30):
        return self.command('human-monitor-command', timeout, **{'command-line': line})

    def event(self, name, timeout=30):
        """Wait for event NAME (one that came earlier counts, once)."""
        end = time.monotonic() + timeout
        while True:
            for message in self.events:
                if message['event'] == name:
                    self.events.remove(message)
                    return message['data'] if 'data' in message else {}
            self.events.append(self._message(max(0.1, end - time.monotonic()),
                                             'event ' + name))


class Disk:
    """An NVMe disk of L0, assigned to a guest.  This program reads and writes the
    file behind it: evidence from outside of what the guest did."""

    def __init__(self, directory, number):
        self.serial = 'disk%d' % number
        self.path = os.path.join(directory, self.serial + '.raw')
        self.address = None         # in L1, once that is up
        with open(self.path, 'wb') as f:
            f.truncate(DISK_SIZE)

    def write(self, offset, data):
        with open(self.path, 'r+b') as f:
            f.seek(offset)
            f.write(data)

    def fill(self, offset, size):
        """Fresh random bytes; returns their SHA-256."""
        data = os.urandom(size)
        self.write(offset, data)
        return hashlib.sha256(data).hexdigest()

    def sum(self, offset, size):
        with open(self.path, 'rb') as f:
            f.seek(offset)
            return hashlib.sha256(f.read(size)).hexdigest()


class Outer:
    """L0 with L1 in it.

    NULL_DISK: the first disk of each slot has NULL_DISK_SIZE, answers at once, and moves no
    data.
    CPUS: the number of CPUs of L1; each is a thread of this computer.
    COUNTED: a CPU of this computer, on which all threads run.  L1's clock then counts
    instructions, one per nanosecond, and its CPUs take turns in one thread.  Its devices,
    including the SMMU, take no time: they run as soon as they get a request, unless something
    else uses that CPU.  While all CPUs of L1 are idle the clock jumps to the next timer.
    CPU: the model of L1's CPUs.
    APPEND: more for L1's command line.
    MORE: more arguments, with @DIR@ for the directory of the machine's sockets.
    """

    def __init__(self, qemu, kernel, root, logs, slots=2, memory=3072, null_disk=False, cpus=2,
                 counted=None, cpu='max,pauth-impdef=on', append='', more=()):
        self.logs = logs
        self.dir = tempfile.mkdtemp(prefix='nested-')
        self.disks = [Disk(self.dir, n) for n in range(slots * DISKS_PER_SLOT)]
        self.console = os.path.join(logs, 'l1.log')
        open(self.console, 'w').close()
        names = ['%s%d' % (kind, n) for n in range(slots) for kind in ('shell', 'serial', 'qmp')]
        qmp = os.path.join(self.dir, 'qmp')
        args = [qemu, '-nodefaults', '-no-reboot', '-display', 'none',
                '-serial', 'file:' + self.console,
                '-machine', 'virt,virtualization=on,gic-version=3,iommu=smmuv3',
                '-global', 'arm-smmuv3.stage=nested',
                '-cpu', cpu, '-smp', str(cpus), '-m', str(memory),
                '-accel', 'tcg,thread=' + ('multi' if counted is None else 'single'),
                '-qmp', 'unix:%s,server=on,wait=off' % qmp,
                '-kernel', kernel,
                '-append', 'console=ttyAMA0 root=/dev/vda rw init=/init panic=-1 slots=%d %s'
                % (slots, append),
                '-drive', 'if=none,id=root,format=raw,snapshot=on,file=' + root,
                '-device', 'virtio-blk-device,drive=root',
                '-device', 'virtio-serial-device,max_ports=%d' % (len(names) + 1)]
        if counted is not None:
            # the timer keeps turns and jumps short
            args = ['taskset', '-c', str(counted)] + args + [
                '-icount', 'shift=0,sleep=off', '-netdev', 'hubport,id=none,hubid=0',
                '-object', 'filter-buffer,id=turns,netdev=none,interval=%d' % TURN]
        # refused DMA, for refused()
        args += ['-trace', 'smmuv3_translate_abort', '-trace', 'smmuv3_record_event']
        if has_s2fwb(qemu):
            args += ['-global', 'arm-smmuv3.s2fwb=on']
        for name in names:
            args += ['-chardev', 'socket,id=c-%s,server=on,wait=off,path=%s/%s'
                     % (name, self.dir, name),
                     '-device', 'virtconsole,chardev=c-' + name]
        for n, disk in enumerate(self.disks):
            drive = 'format=raw,file=' + disk.path
            if null_disk and n % DISKS_PER_SLOT == 0:
                drive = 'driver=null-co,read-zeroes=off,size=%d' % NULL_DISK_SIZE
            args += ['-drive', 'if=none,id=d%d,%s' % (n, drive),
                     '-device', 'pcie-root-port,id=rp%d,bus=pcie.0,chassis=%d,addr=%d'
                     % (n, n + 1, n + 1),
                     '-device', 'nvme,serial=%s,drive=d%d,bus=rp%d' % (disk.serial, n, n)]
        args += [m.replace('@DIR@', self.dir) for m in more]
        self.log = os.path.join(logs, 'l0.log')
        with open(self.log, 'w') as log:
            log.write(' '.join(shlex.quote(a) for a in args) + '\n')
            log.flush()
            self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT)
        try:
            self._boot(slots)
        except Exception:
            self.stop()
            raise

    def _boot(self, slots):
        end = time.monotonic() + 180
        while 'L1: ready' not in self.tail():
            if self.process.poll() is not None or time.monotonic() > end:
                raise Failure('L1 does not boot; its console:\n' + self.tail())
            time.sleep(0.1)
        self.qmp = Qmp(Port(os.path.join(self.dir, 'qmp'), os.path.join(self.logs, 'l0-qmp.log')))
        self.qmp.connect(60, lambda: None)
        self.slots = [Slot(self, n) for n in range(slots)]
        self.slots[0].shell.wait('[ $(ls -d /sys/class/nvme/nvme*/nvme*n1 | wc -l) = %d ]'
                                 % len(self.disks), 30, 'NVMe disks in L1')
        out = self.slots[0].shell.run(
            'for n in /sys/class/nvme/nvme*; do'
            ' echo $(cat $n/serial) $(basename $(readlink $n/device)); done\n'
            'for d in /sys/class/nvme/nvme*/device; do\n'
            ' d=$(readlink -f $d); echo vfio-pci > $d/driver_override\n'
            ' basename $d > $d/driver/unbind; basename $d > /sys/bus/pci/drivers_probe\n'
            'done')
        addresses = dict(line.split() for line in out.splitlines())
        for disk in self.disks:
            disk.address = addresses[disk.serial]

    def tail(self, size=4000):
        with open(self.console, errors='replace') as f:
            return f.read()[-size:]

    def traced(self, pattern):
        """Lines that L0 has traced with PATTERN."""
        with open(self.log, errors='replace') as log:
            return [line.rstrip() for line in log if re.search(pattern, line)]

    def refused(self, disk):
        """How often the physical SMMU, which is in L0, refused a request of DISK."""
        sid = 'sid=0x%x' % stream_id(disk.address)
        with open(self.log, errors='replace') as log:
            return sum(sid in line.split() for line in log)

    def vintf_lines(self, vintf, pattern=''):
        """What the CMDQV in L0 has traced of a VINTF (MACHINES in tests/nested/run)."""
        return self.traced(r'^tegra241_cmdqv_\w+ VINTF%s: .*%s' % (vintf, pattern))

    def vintfs(self, disk):
        """The VINTFs that have ever known the StreamID of DISK, the last one at the end."""
        lines = self.vintf_lines(r'\d', 'enabled=1 .* replace=0x%x$' % stream_id(disk.address))
        return [int(re.search(r'VINTF(\d)', line).group(1)) for line in lines]

    def vintf(self, disk):
        """The VINTF that knows the StreamID of DISK, or that knew it last."""
        vintfs = self.vintfs(disk)
        if not vintfs:
            raise Failure('no VINTF has %s' % disk.serial)
        return vintfs[-1]

    def stop(self):
        self.process.kill()
        self.process.wait()
        for name in os.listdir(self.dir):
            os.unlink(os.path.join(self.dir, name))
        os.rmdir(self.dir)


def stream_id(address):
    """That of a PCI address, where there is one SMMU for all."""
    bus, slot, function = (int(n, 16) for n in re.fullmatch(
        r'[0-9a-f]+:([0-9a-f]+):([0-9a-f]+)\.(\d)', address).groups())
    return bus << 8 | slot << 3 | function


def has_s2fwb(qemu):
    out = subprocess.run([qemu, '-machine', 'virt', '-device', 'arm-smmuv3,help'],
                         capture_output=True, text=True)
    return 's2fwb' in out.stdout


def cpu_time(stat):
    """Seconds of CPU that a process has used, by its /proc/PID/stat."""
    fields = stat.rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


class Slot:
    """A place in L1 where one guest at a time runs."""

    def __init__(self, outer, number):
        self.outer = outer
        self.number = number
        self.disks = outer.disks[number * DISKS_PER_SLOT:][:DISKS_PER_SLOT]
        ports = [Port('%s/%s%d' % (outer.dir, kind, number),
                      os.path.join(outer.logs, '%s%d.log' % (kind, number)))
                 for kind in ('shell', 'serial', 'qmp')]
        self.shell = Shell(ports[0], 'L1')
        self.serial, self.qmp = ports[1:]
        self.dir = '/tmp/s%d' % number
        self.shell.run('mkdir -p ' + self.dir)

    def alive(self):
        """Does its shell still answer?"""
        try:
            return self.shell.run('echo $SLOT', 20) == str(self.number)
        except Failure:
            return False


# What every guest has; the scenario adds the devices.
TRACE = ['iommufd_*', 'smmuv3_accel_*', 'smmuv3_cmdq_opcode', 'vfio_msix_vector_do_use',
         'vfio_msi_enable', 'vfio_msix_enable', 'kvm_irqchip_add_msi_route']


class Guest:
    """An L2 guest in a slot, run by inner QEMU NAME; a context manager.

    DEVICES: arguments of the inner QEMU, with {0}, {1} for the L1 addresses of the slot's
    disks.  APPEND: more for L2's command line.  KERNEL: -kernel gives it one; else the firmware
    finds one.  INITRD: a file in L1.  FIRMWARE: without it, L2 boots by device tree.
    """

    def __init__(self, slot, name, devices, append='', memory=256, cpus=1, trace=TRACE,
                 firmware=True, kernel=True, initrd='/boot/l2.cpio', boot_timeout=90):
        self.slot = slot
        self.boot_timeout = boot_timeout
        self.l1 = slot.shell
        self.qmp = Qmp(slot.qmp)
        self.shell = Shell(slot.serial, 'L2')
        devices = [d.format(*(disk.address for disk in slot.disks)) for d in devices]
        inner = '/inner/' + name
        port = 3 * slot.number
        self.args = [
            inner + '/ld.so', '--library-path', inner, inner + '/qemu-system-aarch64',
            '-nodefaults', '-no-user-config', '-display', 'none',
            '-machine', 'virt,gic-version=3,its=on', '-accel', 'kvm', '-cpu', 'host',
            '-smp', str(cpus), '-m', str(memory)]
        if firmware:
            self.args += [
                '-drive', 'if=pflash,format=raw,readonly=on,file=/boot/code.fd',
                '-drive', 'if=pflash,format=raw,file=%s/vars.fd' % slot.dir]
        if kernel:
            self.args += [
                '-kernel', '/boot/Image', '-initrd', initrd,
                '-append', ('console=ttyAMA0 quiet ' + append).strip()]
        self.args += [
            '-chardev', 'serial,id=serial,path=/dev/hvc%d' % (port + 1),
            '-serial', 'chardev:serial',
            '-chardev', 'serial,id=qmp,path=/dev/hvc%d' % (port + 2),
            '-mon', 'chardev=qmp,mode=control',
            '-D', slot.dir + '/trace.log', '-trace', 'events=%s/events' % slot.dir] + devices
        self.trace_patterns = trace
        self.running = False

    def __enter__(self):
        self.start()
        try:
            self.connect()
            self.booted()
        except Failure:
            self.stop()
            raise
        return self

    def __exit__(self, *unused):
        self.stop()

    @contextlib.contextmanager
    def paused(self):
        """A guest with -S: only its QMP is connected."""
        self.start()
        try:
            self.connect()
            yield self
        finally:
            self.stop()

    def connect(self):
        """Wait for the guest's QMP, or the end of its QEMU."""
        def look():
            if self.ended():
                raise Failure('the inner QEMU ended: ' + self.output())
        self.qmp.connect(120, look)

    def start(self):
        d = self.slot.dir
        self.slot.serial.drop()
        self.slot.qmp.drop()
        self.l1.run('rm -f {0}/*; cp /boot/vars.fd {0}/\n'
                    'printf "%s\\n" {1} > {0}/events'.format(
                        d, ' '.join(shlex.quote(t) for t in self.trace_patterns)))
        self.started = time.monotonic()
        self.l1.run('(setsid %s > %s/qemu.log 2>&1 < /dev/null & echo $! > %s/pid; wait $!;'
                    ' echo $? > %s/status) > /dev/null 2>&1 &'
                    % (' '.join(shlex.quote(a) for a in self.args), d, d, d))
        self.running = True

    def booted(self):
        """Wait for the guest's shell."""
        self.slot.serial.expect('L2: ready', self.boot_timeout, 'boot of L2')
        self.boot_time = time.monotonic() - self.started

    def ended(self):
        return self.l1.run('cat %s/status 2>/dev/null || true' % self.slot.dir) != ''

    def end(self, want, timeout=30):
        """Wait until the inner QEMU has ended; its status must be WANT."""
        self.l1.wait('[ -s %s/status ]' % self.slot.dir, timeout, 'end of the inner QEMU')
        self.running = False
        status = self.l1.run('cat %s/status' % self.slot.dir)
        if status != str(want):
            raise Failure('the inner QEMU ended with status %s, not %d: %s'
                          % (status, want, self.output()))

    def fails(self):
        """Run an inner QEMU that must refuse its command line; return its message."""
        self.start()
        try:
            self.end(1)
        finally:
            self.stop()
        return self.output()

    def quit(self):
        """End the inner QEMU in an orderly way; its status must be 0."""
        self.qmp.command('quit')
        self.end(0)

    def output(self, *expected):
        """What the inner QEMU printed, but for lines with one of the texts EXPECTED."""
        out = self.l1.run('cat %s/qemu.log' % self.slot.dir)
        lines = out.replace('qemu-system-aarch64: ', '').strip().splitlines()
        return '\n'.join(x for x in lines if not any(e in x for e in expected))

    def stop(self):
        if self.running:
            self.running = False
            self.l1.run('kill -9 $(cat {0}/pid); while [ ! -s {0}/status ]; do usleep 100000;'
                        ' done'.format(self.slot.dir), 30, ok=False)

    # What is measured.

    def trace(self, pattern=None):
        """The trace so far, as a list of lines with PATTERN (an extended expression)."""
        out = self.l1.run("grep -E '%s' %s/trace.log || true" % (pattern or '.', self.slot.dir))
        return out.splitlines()

    def count(self, pattern):
        """Lines of the trace with PATTERN."""
        return int(self.l1.run("grep -cE '%s' %s/trace.log || true" % (pattern, self.slot.dir)))

    def exits(self):
        """(exits, exits to user space for MMIO) of this guest so far."""
        out = self.l1.run('cd /sys/kernel/debug/kvm/$(cat %s/pid)-*/ &&'
                          ' cat exits mmio_exit_user' % self.slot.dir)
        return tuple(int(n) for n in out.split())

    def cpu_time(self):
        """Seconds of L1's CPUs that the inner QEMU has used so far, its guest's included."""
        return cpu_time(self.l1.run('cat /proc/$(cat %s/pid)/stat' % self.slot.dir))

    def interrupts(self, match):
        """Sum of the interrupts of L2 whose line in /proc/interrupts has MATCH."""
        return interrupts_of(self.shell, match)


# --- PCI devices of a machine, by its shell ----------------------------------------


def interrupts_of(shell, match):
    """Sum of the interrupts of a machine whose line in /proc/interrupts has MATCH."""
    out = shell.run("grep -E '%s' /proc/interrupts || true" % match)
    return sum(int(n) for line in out.splitlines()
               for n in re.match(r'\s*\w+:((\s+\d+)+)', line).group(1).split())


def find(shell, vendor, device):
    """The PCI address of the device with these IDs, or nothing."""
    return shell.run('for d in /sys/bus/pci/devices/*; do'
                     ' [ $(cat $d/vendor):$(cat $d/device) != 0x%04x:0x%04x ] || basename $d; done'
                     % (vendor, device))


def bind(shell, address, driver=''):
    """The device at ADDRESS leaves its driver, and gets DRIVER; or, without that, one that knows
    it."""
    shell.run('cd /sys/bus/pci/devices/{0}; echo "{1}" > driver_override;'
              ' [ ! -e driver ] || echo {0} > driver/unbind;'
              ' echo {0} > /sys/bus/pci/drivers_probe'.format(address, driver), 60)


# --- what the guests of both beds share -------------------------------------------

def fault(shell, device):
    """Let the NVMe disk DEVICE (a PCI address) read an unmapped address, without a driver.
    Return the line of the guest's log about that, with the StreamID."""
    sys = '/sys/bus/pci/devices/' + device
    shell.run('dmesg -c > /dev/null')
    shell.run('echo %s > /sys/bus/pci/drivers/nvme/unbind' % device, 60)
    shell.run('echo 1 > %s/enable' % sys)
    # memory space and bus mastering
    shell.run("printf '\\006\\004' | dd of=%s/config bs=1 seek=4 conv=notrunc 2>/dev/null" % sys)
    bar = int(shell.run('head -n 1 %s/resource' % sys).split()[0], 16)
    # CC.EN off, AQA, ASQ, ACQ, CC.EN on, the doorbell of the admin queue
    for offset, value in ((0x14, 0), (0x24, 0x10001), (0x28, 0xdead0000), (0x2c, 0),
                          (0x30, 0xdeae0000), (0x34, 0), (0x14, 0x460001), (0x1000, 1)):
        shell.run('devmem 0x%x 32 0x%x' % (bar + offset, value))
    sid = stream_id(device)
    # F_TRANSLATION and the StreamID, raw or in words
    shell.wait(r'dmesg | grep -qE "0x0*%x00000010$|F_TRANSLATION.* sid: 0x%x "' % (sid, sid), 20,
               'an event of StreamID 0x%x in the log' % sid)
    line = shell.run(r'dmesg | grep -E "event.*(0x10|F_TRANSLATION)" | tail -n 1')
    shell.run('devmem 0x%x 32 0' % (bar + 0x14))
    shell.run('echo 0 > %s/enable' % sys)
    shell.run('echo %s > /sys/bus/pci/drivers/nvme/bind' % device, 60)
    return '%s, StreamID 0x%x' % (re.sub(r'^\[.*?\] ', '', line), sid)


def ats_and_pasids(shell, device):
    """The driver of the SMMU has enabled ATS and PASIDs of DEVICE (a directory in sysfs); what
    it has enabled, in words."""
    config = bytes.fromhex(shell.run('hexdump -v -e \'1/1 "%%02x"\' %s/config' % device))
    found, at = {}, 0x100
    while at and len(found) < 64:
        header = int.from_bytes(config[at:at + 4], 'little')
        found[header & 0xffff] = at
        at = header >> 20
    if not {0xf, 0x1b} <= found.keys():
        raise Failure('no ATS or no PASID: %s' % found)
    ats, pasid = (int.from_bytes(config[found[n] + 6:found[n] + 8], 'little') for n in (0xf, 0x1b))
    if not (ats & 0x8000 and pasid & 1):
        raise Failure('off: ATS control %#x, PASID control %#x' % (ats, pasid))
    return ('ATS enabled at %#x, PASIDs of %d bits enabled at %#x'
            % (found[0xf], config[found[0x1b] + 5] & 31, found[0x1b]))


def load_kexec(shell, disk, node, kernel, initrd, options):
    """Load a kernel through DISK (NODE in the guest), for `kexec -e`, or for a panic if
    OPTIONS has -p."""
    offset = 0
    for name, data in (('Image', kernel), ('initrd', initrd)):
        disk.write(offset, data)
        blocks = -(-len(data) // (64 << 10))
        shell.run('dd if=%s bs=64k skip=%d count=%d iflag=direct 2>/dev/null |'
                  ' head -c %d > /tmp/%s' % (node, offset >> 16, blocks, len(data), name), 60)
        offset += blocks << 16
    shell.run('/kexec/ld.so --library-path /kexec /kexec/kexec -a %s /tmp/Image'
              ' --initrd=/tmp/initrd --reuse-cmdline && rm /tmp/Image /tmp/initrd' % options, 60)
