"""Our QEMU on the host model, started by a command line of the plan tool."""
# SPDX-License-Identifier: GPL-2.0-or-later

import json
import os
import socket
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(TOP, "build")
FLAVOUR = os.environ.get("FLAVOUR", "x86")
QEMU = os.path.join(BUILD, FLAVOUR, "qemu-system-aarch64")
MODEL = os.path.join(BUILD, "check/tests/host-model/libhost-model.so")
FIRST_FD = 100
FLASH = 64 << 20            # what virt wants of each half of the firmware


def preload():
    if FLAVOUR != "asan":
        return MODEL
    asan = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True,
                          text=True, check=True).stdout.strip()
    return f"{asan} {MODEL}"


def model_config(devices):
    """The host model's file for DEVICES of a plan: (SMMU, group) in the order of fds."""
    lines, smmus = [], sorted({smmu for smmu, _ in devices})
    for smmu in smmus:
        lines += [f"[smmu {smmu}]", "profile=grace"]
    for n, (smmu, group) in enumerate(devices):
        lines += [f"[device dev{n}]", "kind=dma", f"smmu={smmu}", f"sid={0x100 * (n + 1):#x}",
                  f"group=g{group}", "ats=on", "pasid=20", f"fds={FIRST_FD + n}"]
    return "\n".join(lines) + "\n"


class Qemu:
    """A context manager.  ARGV is what the tool printed; what this computer does not have
    is replaced: KVM, the firmware, and each host= by the file descriptor of the model."""

    def __init__(self, argv, devices):
        self.dir = tempfile.TemporaryDirectory(prefix="plan-")
        self.ini = self.path("host.ini")
        hosts = {}
        words = []
        for word in argv[1:]:
            parts = word.split(",")
            if parts[0] in ("vfio-pci", "vfio-pci-nohotplug"):
                host = next(p for p in parts if p.startswith("host="))
                fd = hosts.setdefault(host[5:], FIRST_FD + len(hosts))
                parts[parts.index(host)] = f"fd={fd}"
            words.append(",".join("file=" + self.flash("code.fd") if p.startswith("file=/usr")
                                  else p for p in parts))
        words[words.index("-accel") + 1] = "tcg"
        words[words.index("-cpu") + 1] = "cortex-a57"
        with open(self.ini, "w") as f:
            f.write(model_config([devices[h] for h in hosts]))
        self.flash("vars.fd")
        subprocess.run([os.path.join(os.path.dirname(QEMU), "qemu-img"), "create", "-q", "-f",
                        "qcow2", self.path("guest.qcow2"), "1M"], check=True)
        self.argv = [QEMU, *words, "-S", "-qmp", f"unix:{self.path('qmp')},server=on,wait=on"]

    def path(self, name):
        return os.path.join(self.dir.name, name)

    def flash(self, name):
        with open(self.path(name), "wb") as f:
            f.truncate(FLASH)
        return self.path(name)

    def __enter__(self):
        env = {**os.environ, "LD_PRELOAD": preload(), "HOST_MODEL_CONFIG": self.ini,
               "HOST_MODEL_PROGRAM": "qemu-system", "HOST_MODEL_CONTROL": self.path("control"),
               "ASAN_OPTIONS": "detect_leaks=0"}
        self.process = subprocess.Popen(self.argv, cwd=self.dir.name, env=env, text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE)
        try:
            self.qmp = self.connect("qmp")
            self.qmp.readline()
            self.command("qmp_capabilities")
        except (OSError, ValueError) as e:
            self.process.kill()
            raise AssertionError(f"QEMU does not start: {self.process.communicate()[1]}") from e
        return self

    def connect(self, name):
        end = time.monotonic() + 60
        connection = socket.socket(socket.AF_UNIX)
        while True:
            try:
                connection.connect(self.path(name))
                return connection.makefile("rw")
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def command(self, name, **arguments):
        self.qmp.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self.qmp.flush()
        while True:
            answer = json.loads(self.qmp.readline())
            if "error" in answer:
                raise AssertionError(f"{name}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def get(self, device, name):
        return self.command("qom-get", path="/machine/peripheral/" + device, property=name)

    def bus_of(self, device):
        """The path of the bus that a device is on."""
        return self.get(device, "parent_bus")

    def counters(self):
        control = self.connect("control")
        control.write("counters\n")
        control.flush()
        return json.loads(control.readline())

    def __exit__(self, *unused):
        self.errors = ""
        try:
            self.command("quit")
            self.errors = self.process.communicate(timeout=60)[1]
        except (OSError, ValueError, subprocess.TimeoutExpired):
            self.process.kill()
            self.errors = self.process.communicate()[1]
        self.dir.cleanup()


def refusal(argv, devices):
    """What QEMU says when it does not start, or an AssertionError if it does."""
    qemu = Qemu(argv, devices)
    try:
        with qemu:
            pass
    except AssertionError as e:
        return str(e)
    raise AssertionError("QEMU started")
