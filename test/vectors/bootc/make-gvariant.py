#!/usr/bin/python3
"""Writes gvariant.json with GLib's own serializer (python3-gi): what src/deployment/gvariant.ts must read."""
import hashlib, json, os
from gi.repository import GLib

CASES = [
    ("ostree-booted, composefs without verity", "a{sv}",
     "{'backing-root-device-inode': <(uint64 0xfe00, uint64 0x23)>, 'root.transient': <false>, 'root.transient-ro': <false>, 'composefs': <true>, 'composefs.verity': <false>, 'sysroot-ro': <true>}"),
    ("ostree-booted, verity and transient etc", "a{sv}",
     "{'composefs': <true>, 'composefs.verity': <true>, 'transient-etc': <'/run/ostree/transient-etc.ab12CD'>, 'root.transient': <true>}"),
    ("staged deployment", "a{sv}",
     "{'target': <{'name': <'" + "b9" * 32 + ".1'>, 'osname': <'default'>, 'bootcsum': <'" + "0c" * 32 + "'>}>, 'locked': <true>, 'kargs': <['root=UUID=x', 'rw']>, 'bootconfig-extra': <{'x-a': 'b'}>}"),
    ("empty dictionary", "a{sv}", "{}"),
    ("numbers of every width", "(ynqiuxtd)",
     "(byte 0xff, int16 -2, uint16 65535, int32 -3, uint32 4294967295, int64 -4, uint64 18446744073709551615, 1.5)"),
    ("array of tuples of mixed sizes", "a(sqsas)", "[('a', 1, 'bcd', ['x', '', 'zz']), ('', 2, 'ü', [])]"),
    ("bytes", "ay", "[byte 1, 2, 3]"),
    ("dictionary with number keys", "a{us}", "{1: 'one', 2: 'two'}"),
    ("more than 255 bytes", "as", str(["x" * 200, "y" * 100, ""])),
    ("more than 65,535 bytes", "as", str(["x" * 40000, "y" * 30000])),
]

out = []
for name, kind, text in CASES:
    value = GLib.Variant.parse(GLib.VariantType(kind), text, None, None)
    data = bytes(value.get_data_as_bytes().get_data())
    # A long one is built again by the test, which compares its digest.
    body = {"hex": data.hex()} if len(data) < 1024 else {"sha256": hashlib.sha256(data).hexdigest()}
    out.append({"name": name, "type": kind, **body})
with open(os.path.join(os.path.dirname(__file__), "gvariant.json"), "w") as file:
    json.dump(out, file, indent=1)
    file.write("\n")
