# What `make bench` measures: the same guest and the same reads on our QEMU and on Debian's
# packaged 11.1, in turn, in one emulated host.
#
# Figures are medians; times are of an emulated computer, so that only their ratio means
# anything.  What is counted (exits, ioctls) is the same on any.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import statistics
import time

from bed import Guest

SMALL, LARGE = 2000, 64         # reads of 4 KiB, of 512 KiB
# the events by which each counts invalidation calls; ours by another name
CALLS = ('smmuv3_accel_invalidate', 'iommufd_backend_invalidate_cache')
TRACE = [event + '*' for event in CALLS] + ['smmuv3_cmdq_opcode']

WHAT = {
    'boot exits': 'exits to QEMU from power-on to the shell',
    'boot s': 'seconds from power-on to the shell',
    '4k exits': 'exits to QEMU for a read of 4 KiB',
    '4k calls': 'invalidation calls for a CMD_SYNC, reads of 4 KiB',
    '4k s': 'seconds for %d reads of 4 KiB' % SMALL,
    '512k exits': 'exits to QEMU for a read of 512 KiB',
    '512k calls': 'invalidation calls for a CMD_SYNC, reads of 512 KiB',
    '512k s': 'seconds for %d reads of 512 KiB' % LARGE,
}


HEAD = '''<!-- written by `make bench` -->

The same guest with the same disk, in strict mode, on both in turn, in one emulated host (`make nested`).
Medians of %d, ± half of the range. Times are of an emulated computer: their ratio counts.

'''


def traced(guest, on):
    """Have the inner QEMU write its trace, or not: it takes time."""
    for name in TRACE:
        guest.qmp.hmp('trace-event %s %s' % (name, 'on' if on else 'off'))


def one(slot, inner, devices):
    """One guest: its figures by name."""
    figures = {}
    with Guest(slot, inner, devices, 'iommu.passthrough=0 iommu.strict=1', trace=TRACE) as guest:
        traced(guest, False)
        figures['boot s'] = guest.boot_time
        figures['boot exits'] = guest.exits()[1]
        guest.shell.wait('[ -b /dev/nvme0n1 ]', 30, 'the disk')
        for name, size, n in (('4k', '4k', SMALL), ('512k', '512k', LARGE)):
            read = ('dd if=/dev/nvme0n1 of=/dev/null bs=%s count=%d iflag=direct 2>/dev/null'
                    % (size, n))
            guest.shell.run(read, 120)                          # warm
            before, start = guest.exits()[1], time.monotonic()
            guest.shell.run(read, 120)
            figures[name + ' s'] = time.monotonic() - start
            figures[name + ' exits'] = (guest.exits()[1] - before) / n
            calls, syncs = [guest.count(p) for p in ('|'.join(CALLS), 'CMD_SYNC')]
            traced(guest, True)
            guest.shell.run(read, 120)
            traced(guest, False)
            calls = guest.count('|'.join(CALLS)) - calls
            syncs = guest.count('CMD_SYNC') - syncs
            figures[name + ' calls'] = calls / max(syncs, 1)
        guest.quit()
    return figures


def bench(outer, inners, devices, times):
    """The table, as text: INNERS are (name, what a reader calls it), ours first."""
    slot = outer.slots[0]
    rows = []
    for ril in ('on', 'off'):
        figures = {name: [] for name, _ in inners}
        with_ril = [re.sub('accel=on', 'accel=on,ril=' + ril, d) for d in devices]
        for n in range(times):
            for name, _ in inners:
                figures[name].append(one(slot, name, with_ril))
                print('# ril=%s, %d of %d: %s %s'
                      % (ril, n + 1, times, name,
                         ', '.join('%s %.3g' % kv for kv in figures[name][-1].items())),
                      flush=True)
        for key, what in WHAT.items():
            medians = [statistics.median(f[key] for f in figures[name]) for name, _ in inners]
            spread = [max(f[key] for f in figures[name]) - min(f[key] for f in figures[name])
                      for name, _ in inners]
            rows.append((ril, what, medians, spread))
    lines = ['| ril | what | %s | ratio |' % ' | '.join(title for _, title in inners),
             '|---|---|%s---:|' % ('---:|' * len(inners))]
    for ril, what, medians, spread in rows:
        values = ['%.4g (± %.2g)' % (m, s / 2) for m, s in zip(medians, spread)]
        ratio = '%.2f' % (medians[0] / medians[1]) if medians[1] else ''
        lines.append('| %s | %s | %s | %s |' % (ril, what, ' | '.join(values), ratio))
    return '\n'.join(lines)
