"""The command: options, and what is printed when."""
# SPDX-License-Identifier: GPL-2.0-or-later

import argparse
import dataclasses
import json
import sys

from . import checks, cmdline, libvirt, planner, probe, report, rules
from .host import Host, full_address
from .machine import MIB, size_of

EPILOG = """\
Without an address it says whether this host can do it, and which devices share
a physical SMMU.  With addresses (0009:01:00.0, as in `lspci -D`) it checks
these devices, and prints the command line of QEMU, or with --libvirt the XML,
of a guest that has them.  With --check it says which rule a given one breaks.

It never writes anything.  It opens no device unless --probe is given.

exit status: 0 all is there, 1 something is missing or wrong, 2 wrong usage
"""


def parser():
    p = argparse.ArgumentParser(
        prog="smmuv3-plan", description=__import__("smmuv3_plan").__doc__.split("\n", 1)[0],
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("address", nargs="*", help="PCI address of a device for the guest")
    p.add_argument("--check", metavar="FILE",
                   help="explain the command line or XML in FILE (- is standard input)")
    p.add_argument("--libvirt", action="store_true", help="print an XML for libvirt")
    p.add_argument("--probe", action="store_true",
                   help="ask the host's iommufd too; each device is opened for a moment, "
                        "and must have a VFIO driver and no user")
    p.add_argument("--root", metavar="DIR", default="/", help="read a copy of a host's files")
    p.add_argument("--memory", default="4G", help="of the guest (default 4G)")
    p.add_argument("--cpus", type=int, default=4, help="of the guest (default 4)")
    p.add_argument("--no-bind", action="store_true",
                   help="do not say which of the host's memory a NUMA node takes")
    p.add_argument("--json", action="store_true", help="print JSON, for programs")
    p.add_argument("--only", action="store_true",
                   help="print nothing but the command line or the XML")
    return p


def fail(text):
    print(f"smmuv3-plan: {text}", file=sys.stderr)
    return 2


def ask(host, addresses):
    """Answers and refusals of probe, by address."""
    answers, refusals = {}, {}
    for address in addresses:
        device = host.devices.get(address)
        if device:
            try:
                answers[address] = probe.ask_device(host, device)
            except probe.Refused as e:
                refusals[address] = str(e)
    return answers, refusals


def read_machine(path):
    if path == "-":
        text = sys.stdin.read()
    else:
        with open(path, encoding="utf-8", errors="replace") as f:
            text = f.read(1 << 20)
    if text.lstrip().startswith("<"):
        return libvirt.read(text)
    return cmdline.read(text)


def check_given(args, host):
    machine = read_machine(args.check)
    answers = {}
    if args.probe:
        answers, _ = ask(host, [d.host for d in machine.assigned])
    findings = rules.judge(machine, host, answers)
    wrong = any(f.verdict == rules.FAULT for f in findings)
    if args.json:
        print(json.dumps({"findings": [dataclasses.asdict(f) for f in findings],
                          "not_read": machine.doubts, "problems": host.problems}, indent=2))
    else:
        for line in report.findings_report(machine, findings):
            print(line)
        problems(host)
    return 1 if wrong else 0


def problems(host):
    for line in host.problems:
        print(f"smmuv3-plan: {line}", file=sys.stderr)


def answer(args, host, addresses, memory):
    """Checks, and a plan if there are addresses."""
    answers, refusals = ask(host, addresses) if args.probe else ({}, {})
    devices = [host.devices[a] for a in addresses if a in host.devices]
    results = checks.run(checks.Question(host, memory, devices, answers, refusals))
    plan = planner.Plan(host, addresses, memory, args.cpus) if addresses else None
    missing = any(r.verdict == checks.MISSING for r in results) or bool(plan and plan.left_out)
    machine = plan.machine if plan else None
    autos = plan.autos(answers) if machine else {}
    bind = not args.no_bind
    text = xml = None
    if machine:
        xml = libvirt.write(machine, bind) if args.libvirt or args.json else None
        text = cmdline.write(machine, bind)
    if args.json:
        print_json(host, results, answers, plan, autos, bind, xml)
    elif args.only:
        for address, why in plan.left_out.items():
            print(f"smmuv3-plan: {address} is not in the plan: {why}", file=sys.stderr)
        for one in results:
            if one.verdict == checks.MISSING and one.device not in plan.left_out:
                where = f"{one.device}: " if one.device else ""
                print(f"smmuv3-plan: missing: {where}{one.check}: {one.text}", file=sys.stderr)
        if machine:
            print(xml if args.libvirt else text)
    else:
        lines = [*report.host_report(host, results)]
        if plan:
            lines += report.device_report(host, devices, results)
            lines += report.plan_report(plan, autos)
        else:
            lines += report.inventory(host)
        if machine:
            lines.append(report.heading("XML" if xml else "Command line"))
            lines += [report.fold(n, "") for n in report.notes(machine, xml)]
            lines += ["", xml or text]
        print("\n".join(lines))
        problems(host)
    return 1 if missing else 0


def print_json(host, results, answers, plan, autos, bind, xml):
    machine = plan.machine if plan else None
    out = {
        "checks": [dataclasses.asdict(r) for r in results],
        "smmus": [dataclasses.asdict(s) for s in host.smmus.values()],
        "devices": [dataclasses.asdict(d) for d in host.devices.values()],
        "answers": {address: dataclasses.asdict(a) for address, a in answers.items()},
        "problems": host.problems,
    }
    if plan:
        out["left_out"] = plan.left_out
        out["auto"] = autos
        out["machine"] = dataclasses.asdict(machine) if machine else None
        out["argv"] = ["qemu-system-aarch64", *cmdline.words(machine, bind)] if machine else None
        out["xml"] = xml
    print(json.dumps(out, indent=2))


def main(argv=None):
    args = parser().parse_args(argv)
    host = Host(args.root)
    addresses = []
    for text in args.address:
        address = full_address(text)
        if address is None:
            return fail(f"{text!r} is no PCI address; write 0009:01:00.0")
        addresses.append(address)
    try:
        memory = size_of(args.memory, MIB)
    except ValueError as e:
        return fail(f"--memory: {e}")
    if memory < 128 * MIB or memory % MIB or not 1 <= args.cpus <= 512:
        return fail("a guest has at least 128M of memory, and 1 to 512 CPUs")
    if not host.exists("/sys") and not args.check:
        return fail(f"{args.root} has no directory sys")
    if args.check and (addresses or args.libvirt or args.only):
        return fail("--check takes a file and nothing else to do")
    if (args.libvirt or args.only) and not addresses:
        return fail("name the devices that the guest is to have")
    try:
        if args.check:
            return check_given(args, host)
        return answer(args, host, addresses, memory)
    except (cmdline.BadInput, OSError) as e:
        return fail(f"{args.check}: {getattr(e, 'strerror', None) or e}")
    except planner.CannotPlan as e:
        print(f"smmuv3-plan: {e}", file=sys.stderr)
        return 1
