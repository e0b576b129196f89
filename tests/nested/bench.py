# What `make bench` measures on the nested bed: the same guest does the same work on our QEMU and
# on Debian's packaged 11.1, in turn, in one emulated host.  There are two such hosts, one per
# number of vCPUs.
#
# VCMDQs in hardware have hosts of their own, whose SMMU has them.
#
# The host's clock counts instructions, so that its times mean the same on any computer; see
# Outer in bed.py.  Reads without range invalidation are also timed by this computer's clock.
# scripts/bench makes tables and plots of the results.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import contextlib
import itertools
import os
import re
import signal
import subprocess
import threading

from bed import TURN, Failure, Guest, cpu_time

STRICT = 'iommu.passthrough=0 iommu.strict=1'
# Enough reads, so that typing the command into a serial port and starting dd do not matter
SMALL, LARGE = 4000, 1024       # of 4 KiB, of 512 KiB
IDLE = 5                        # seconds
CPUS = 4                        # of the larger guests, and of their host
BEST_OF = 3                     # by the wall clock
# the trace events that count invalidation calls; ours has another name
CALLS = ('smmuv3_accel_invalidate', 'iommufd_backend_invalidate_cache')
REGISTERS = ('smmuv3_read_mmio', 'smmuv3_write_mmio')
DRAINED = 'smmuv3_cmdq_drained'
HARDWARE = 'x-cmdqv-backend=hardware'
WORK = CALLS + ('smmuv3_cmdq_opcode',)


def traced(guest, on, events):
    """Switch trace events of the inner QEMU on or off: they take time."""
    for name in events:
        guest.qmp.hmp('trace-event %s* %s' % (name, 'on' if on else 'off'))


# In the guest: each of $3 CPUs reads $2 blocks of $1 bytes; the log has the finest clock
READS = r"""
dmesg -c > /dev/null
echo begin > /dev/kmsg
n=0
while [ $n -lt $3 ]; do
    dd if=/dev/nvme0n1 of=/dev/null bs=$1 count=$2 skip=$((n * $2)) iflag=direct 2>/dev/null &
    n=$((n + 1))
done
wait
echo end > /dev/kmsg
dmesg
"""


def prepare(guest, cpus):
    """Wait for the disk.  A guest with one CPU is bound to the second CPU of the host, together
    with its interrupts, as an admin would do."""
    guest.shell.wait('[ -b /dev/nvme0n1 ]', 30, 'the disk')
    guest.shell.run('echo on > /proc/sys/kernel/printk_devkmsg')
    guest.shell.run("cat > /tmp/reads << 'EOF'%sEOF" % READS)
    if cpus == 1:
        for cpu in guest.qmp.command('query-cpus-fast'):
            guest.l1.run('taskset -p 2 %d' % cpu['thread-id'])
        guest.l1.run("for irq in $(sed -n '/vfio-msix/s/:.*//p' /proc/interrupts); do"
                     ' echo 2 > /proc/irq/$irq/smp_affinity; done')


def reads(guest, size, total, cpus):
    """Read TOTAL blocks of SIZE bytes; return the seconds by the guest's clock (the host's)."""
    out = guest.shell.run('sh /tmp/reads %d %d %d' % (size, total // cpus, cpus), 240)
    times = [re.search(r'\[ *([\d.]+)\] ' + word, out) for word in ('begin', 'end')]
    if not all(times):
        raise Failure('no time of the reads in the log: ' + out)
    return float(times[1].group(1)) - float(times[0].group(1))


def map_benchmark(guest, figures, cpus):
    """The kernel's own benchmark replaces the driver: microseconds to unmap, by pages."""
    device = guest.shell.run('basename $(readlink -f /sys/class/nvme/nvme0/device)')
    guest.shell.run('cd /sys/bus/pci; echo dma_map_benchmark > devices/%s/driver_override;'
                    ' echo %s > drivers/nvme/unbind; echo %s > drivers/dma_map_benchmark/bind'
                    % (device, device, device))
    for pages in (1, 128):
        out = guest.shell.run('dma_map_benchmark -t %d -s 1 -g %d' % (cpus, pages), 120)
        match = re.search(r'average unmap latency\(us\): *([\d.]+)', out)
        if not match:
            raise Failure('dma_map_benchmark says: ' + out)
        figures['unmap %d' % pages] = float(match.group(1))


def one(slot, inner, devices, cpus):
    """Run one guest; return its figures by name, and the version of its QEMU."""
    figures = {}
    hardware = any(HARDWARE in d for d in devices)
    with Guest(slot, inner, devices, STRICT, cpus=cpus, trace=REGISTERS) as guest:
        figures['boot s'] = guest.cpu_time()
        figures['boot exits'] = guest.exits()[1]
        figures['boot registers'] = guest.count('|'.join(REGISTERS))
        traced(guest, False, REGISTERS)
        prepare(guest, cpus)
        for name, size, n in (('4k', 4096, SMALL), ('512k', 512 << 10, LARGE)):
            reads(guest, size, n // 8, cpus)                    # warm
            exits = guest.exits()[1]
            before = smmu_exits(guest, inner)
            figures[name + ' s'] = reads(guest, size, n, cpus)
            figures[name + ' exits'] = (guest.exits()[1] - exits) / n
            if before:
                accesses, syncs = [a - b for a, b in zip(smmu_exits(guest, inner), before)]
                # each read has a CMD_SYNC or more, which QEMU does not see in hardware
                figures[name + ' smmu exits'] = accesses / (n if hardware else syncs)
            calls, syncs = [guest.count(p) for p in ('|'.join(CALLS), 'CMD_SYNC')]
            traced(guest, True, WORK)
            reads(guest, size, n // 8, cpus)
            traced(guest, False, WORK)
            calls = guest.count('|'.join(CALLS)) - calls
            syncs = guest.count('CMD_SYNC') - syncs
            if bool(syncs) == hardware:
                raise Failure('%d CMD_SYNCs in the trace' % syncs)
            figures[name + ' calls'] = calls / (n if hardware else syncs)
        if inner == 'test' and not hardware:
            traced(guest, True, [DRAINED])
            reads(guest, 4096, SMALL // 8, cpus)
            traced(guest, False, [DRAINED])
            figures['drain us'] = drain_time(guest)
        map_benchmark(guest, figures, cpus)
        figures['idle s'] = idle(guest)
        version = guest.qmp.command('query-version')
        guest.quit()
    return figures, '%(major)d.%(minor)d.%(micro)d' % version['qemu']


def smmu_exits(guest, inner):
    """(accesses to the SMMU's registers that exited, CMD_SYNCs) so far, as our QEMU counts them."""
    if inner != 'test':
        return None
    (smmu,) = guest.qmp.command('query-smmuv3')
    stats = smmu['accel']['stats']
    return (sum(c['count'] for kind in ('reads', 'writes') for c in stats['register-' + kind]),
            sum(c['count'] for c in stats['commands'] if c['name'] == 'SYNC'))


def idle(guest):
    """Seconds of CPU that QEMU needs while the guest sleeps for IDLE seconds."""
    guest.shell.run('sleep 1')
    spent = guest.cpu_time()
    guest.shell.run('sleep %d' % IDLE, 240)
    return guest.cpu_time() - spent


def drain_time(guest):
    """Microseconds that a drain of the queue holds the BQL, from the trace."""
    times = [int(re.search(r'(\d+) ns', line).group(1)) for line in guest.trace(DRAINED)]
    if not times:
        raise Failure('no %s in the trace' % DRAINED)
    return sum(times) / len(times) / 1000


def with_ril(devices, value):
    return [d.replace('accel=on', 'accel=on,ril=' + value) for d in devices]


def bench(outer, variants, devices, times, cpus):
    """Measure, and return the results for JSON.

    VARIANTS take turns.  Each is (title, inner QEMU, further options of the SMMU, always); one
    without ALWAYS is measured only once, with ril=on.
    """
    slot = outer.slots[0]
    versions = {'host': slot.shell.run('uname -r')}
    results = [{'ril': ril, 'cpus': cpus, 'figures': {}} for ril in ('off', 'on')]
    for n, result in itertools.product(range(times), results):
        ril = result['ril']
        for title, inner, more, always in variants:
            if not always and (ril != 'on' or n):
                continue
            figures, versions[title] = one(slot, inner, with_ril(devices, ril + more), cpus)
            found = result['figures'].setdefault(title, {})
            for key, value in figures.items():
                found.setdefault(key, []).append(value)
            print('# ril=%s, %d vCPUs, %d of %d: %s: %s'
                  % (ril, cpus, n + 1, times, title,
                     ', '.join('%s %.4g' % kv for kv in figures.items())), flush=True)
    return {'times': times, 'turn': TURN, 'small': SMALL, 'large': LARGE, 'idle': IDLE,
            'versions': versions,
            'results': results}


def keep_apart(outer, cpus):
    """If a guest has one CPU, the CPU of the host that it is bound to gets a CPU of this computer
    of its own.  Then the guest waits for what the others emulate, but not for a CPU."""
    every = os.sched_getaffinity(0)
    second = {max(every)}
    busy = outer.qmp.command('query-cpus-fast')[1]['thread-id']
    for thread in map(int, os.listdir('/proc/%d/task' % outer.process.pid)):
        places = every if cpus > 1 else second if thread == busy else every - second or every
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(thread, places)


def by_wall_clock(outer, ours, others, devices, times):
    """Compare OURS with each of OTHERS; return seconds for LARGE reads of 512 KiB, for JSON.  All
    CPUs of OUTER run at once, and its clock is that of this computer.

    All are (title, inner QEMU, ril).  The two guests run together and take turns.  The quickest
    of BEST_OF counts for each, because other work of this computer only makes it longer.
    """
    results = []
    for cpus, other in itertools.product((1, CPUS), others):
        pair = ours, other
        seconds = []
        for n in range(times):
            with contextlib.ExitStack() as stack:
                guests = [stack.enter_context(Guest(slot, inner, with_ril(devices, ril), STRICT,
                                                    cpus=cpus, trace=[]))
                          for slot, (_, inner, ril) in zip(outer.slots, pair)]
                for guest in guests:
                    prepare(guest, cpus)
                keep_apart(outer, cpus)
                turns = [[reads(guest, 512 << 10, LARGE, cpus) for guest in guests]
                         for _ in range(BEST_OF)]
                for guest in guests:
                    guest.quit()
            seconds.append([min(each) for each in zip(*turns)])
            print('# by the wall clock, %d vCPUs, %d of %d: %s'
                  % (cpus, n + 1, times, ', '.join('%s, ril=%s: 512k s %.4g' % (title, ril, s)
                                                   for (title, _, ril), s in zip(pair, seconds[n]))),
                  flush=True)
        results.append({'cpus': cpus, 'title': other[0], 'ril': other[2], 'seconds': seconds})
    return results


# Where the outer machine spends its time: perf shows it for the emulator.  For the emulated code
# the monitor of the emulator shows the exception level.

NATIVE = (
    ('the outer SMMU, emulated', r'smmu|iommu'),
    ('the outer disk, emulated', r'nvme|blk_|bdrv_|raw_|aio_|coroutine|dma_blk|pread|ext4|copy_'),
)
LEVELS = {'2': "the host's kernel", '1': "the guest's kernel",
          '0': 'the QEMU under test (and programs of the guest)'}


class Sampler(threading.Thread):
    """Counts where the CPUs of the outer machine are, until it is stopped."""

    def __init__(self, outer):
        super().__init__(daemon=True)
        self.outer, self.ended, self.levels = outer, threading.Event(), {}

    def run(self):
        before = None
        while not self.ended.wait(0.005):
            text = self.outer.qmp.hmp('info registers -a')
            now = re.findall(r'PC=([0-9a-f]+).*?PSTATE=\S+ \S+ (?:\w+ )?EL(\d)', text, re.S)
            # a CPU whose PC does not change waits for an interrupt
            for (pc, level), old in zip(now, before or now):
                if before and pc != old[0]:
                    self.levels[LEVELS[level]] = self.levels.get(LEVELS[level], 0) + 1
            before = now


def process_time(pid):
    """Seconds of CPU that a process of this computer has used."""
    with open('/proc/%d/stat' % pid) as f:
        return cpu_time(f.read())


def profile(outer, inner, devices, ril, logs):
    """Seconds of CPU of this computer that LARGE reads of 512 KiB take, by what it does."""
    data = os.path.join(logs, 'perf.data')
    pid = outer.process.pid
    with Guest(outer.slots[0], inner, with_ril(devices, ril), STRICT, trace=[]) as guest:
        prepare(guest, 1)
        reads(guest, 512 << 10, LARGE // 8, 1)
        sampler = Sampler(outer)
        sampler.start()
        with subprocess.Popen(['perf', 'record', '-q', '-F', '999', '-o', data,
                               '-p', str(pid)]) as perf:
            spent = process_time(pid)
            reads(guest, 512 << 10, LARGE, 1)
            spent = process_time(pid) - spent
            perf.send_signal(signal.SIGINT)
        sampler.ended.set()
        sampler.join()
        guest.quit()
    out = subprocess.run(['perf', 'report', '-i', data, '--stdio', '-q', '--sort', 'symbol'],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                         check=True).stdout
    shares = {}
    for share, symbol in re.findall(r'^ *([\d.]+)% +\[\S\] (.*\S)', out, re.M):
        # TCG's code, and what it calls, counts as emulated code
        what = next((w for w, pattern in NATIVE if re.search(pattern, symbol)), None)
        shares[what] = shares.get(what, 0) + float(share)
    if not shares or not sampler.levels:
        raise Failure('perf or the monitor has no samples')
    emulated = shares.pop(None, 0)
    for what, n in sampler.levels.items():
        shares[what] = emulated * n / sum(sampler.levels.values())
    return {what: spent * share / sum(shares.values()) for what, share in shares.items()}
