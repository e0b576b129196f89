"""smmuv3-plan: which devices of a host fit behind an accelerated SMMUv3, and how.

host.py and iort.py read a host, probe.py asks its iommufd, checks.py judges it.
machine.py says what a virtual machine consists of, and planner.py makes one.
cmdline.py and libvirt.py write and read it, rules.py finds what is wrong in one.
"""
# SPDX-License-Identifier: GPL-2.0-or-later
