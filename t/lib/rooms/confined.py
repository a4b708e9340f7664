#!/usr/bin/python3
# Runs a program under some settings of a systemd service, where no systemd is: confined.py SETTINGS PROGRAM ARGUMENT…
# SETTINGS are lines of a [Service]. What is known: NoNewPrivileges, MemoryDenyWriteExecute, RestrictAddressFamilies and
# SystemCallFilter, as systemd 252 makes them of seccomp. Mounts are left out.
import ctypes
import os
import platform
import re
import socket
import struct
import subprocess
import sys

_LOAD, _AND, _IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06        # linux/bpf_common.h
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000      # linux/seccomp.h
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16                        # struct seccomp_data
_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_WRITE_AND_EXEC, _EXEC, _SHM_EXEC = 6, 4, 0o100000
_EPERM, _EAFNOSUPPORT = 1, 97


def settings(text):
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def _said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def system_calls(name):
    """The names in a set of systemd's, such as @system-service."""
    said = _said("systemd-analyze", "syscall-filter", "--no-pager", name)
    words = [line.strip() for line in said.splitlines() if line.startswith("    ") and not line.strip().startswith("#")]
    return {call for word in words for call in (system_calls(word) if word.startswith("@") else [word])}


def _numbers():
    """This machine's number of each system call."""
    macros = _said("g++", "-E", "-dM", "-include", "asm/unistd.h", "-x", "c", "/dev/null")
    values = dict(re.findall(r"^#define (__NR\w+) (\w+)$", macros, re.MULTILINE))
    values = {name.removeprefix("__NR_"): values.get(value, value) for name, value in values.items()}
    return {name: int(value) for name, value in values.items() if value.isdigit()}


def _op(code, k=0, jt=0, jf=0):
    return [struct.pack("HBBI", code, jt, jf, k)]


def _argument(n):
    return _op(_LOAD, _ARGUMENTS + 8 * n)       # its low half, on a machine of little endian


def _where(value, then):
    return _op(_IF_EQUAL, value, 0, len(then)) + then


def _filter(wanted):
    numbers, code = _numbers(), _op(_LOAD, _MACHINE)
    code += _op(_IF_EQUAL, _MACHINES[platform.machine()], 1, 0) + _op(_RETURN, _KILL) + _op(_LOAD, _NUMBER)
    if "RestrictAddressFamilies" in wanted:
        families = [_where(getattr(socket, name), _op(_RETURN, _ALLOW)) for name in wanted["RestrictAddressFamilies"].split()]
        code += _where(numbers["socket"], _argument(0) + sum(families, []) + _op(_RETURN, _ERRNO | _EAFNOSUPPORT))
    if wanted.get("MemoryDenyWriteExecute") == "yes":
        for name, bits in (("mmap", _WRITE_AND_EXEC), ("mprotect", _EXEC), ("pkey_mprotect", _EXEC), ("shmat", _SHM_EXEC)):
            refuse = _where(bits, _op(_RETURN, _ERRNO | _EPERM))
            code += _where(numbers[name], _argument(2) + _op(_AND, bits) + refuse + _op(_RETURN, _ALLOW))
    if "SystemCallFilter" not in wanted:
        return code + _op(_RETURN, _ALLOW)
    # @default is always allowed, systemd.exec(5).
    for name in sorted(system_calls(wanted["SystemCallFilter"]) | system_calls("@default")):
        if name in numbers:
            code += _where(numbers[name], _op(_RETURN, _ALLOW))
    return code + _op(_RETURN, _KILL)


def confine(wanted):
    libc = ctypes.CDLL(None, use_errno=True)

    def prctl(*arguments):
        if libc.prctl(*(ctypes.c_ulong(argument) if isinstance(argument, int) else argument for argument in arguments)) != 0:
            raise OSError(ctypes.get_errno(), f"prctl {arguments[0]}")
    code = b"".join(_filter(wanted))
    octets = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(octets))
    if wanted.get("NoNewPrivileges") == "yes":
        prctl(38, 1, 0, 0, 0)
    prctl(22, 2, ctypes.create_string_buffer(program, len(program)), 0, 0)


if __name__ == "__main__":
    confine(settings(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
