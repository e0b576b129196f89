# A FAT16 file system without a partition table, for firmware to boot from.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import struct

SECTOR = 512
CLUSTER = 16 * SECTOR
ROOT_ENTRIES = 512


def image(size, files):
    """A file system of SIZE bytes with FILES: 'DIR/NAME.EXT' (8.3) to contents."""
    sectors = size // SECTOR
    fat_sectors = (sectors // 16 * 2) // SECTOR + 1
    root_sectors = ROOT_ENTRIES * 32 // SECTOR
    data_start = (1 + 2 * fat_sectors + root_sectors) * SECTOR
    clusters = (size - data_start) // CLUSTER
    assert 4085 <= clusters < 65525, 'FAT16 cannot have that size'

    boot = struct.pack('<3s8sHBHBHHBHHHLLBBBL11s8s', b'\xeb\x3c\x90', b'NESTED  ', SECTOR,
                       CLUSTER // SECTOR, 1, 2, ROOT_ENTRIES, 0, 0xf8, fat_sectors, 32, 2, 0,
                       sectors, 0x80, 0, 0x29, 0x4e455354, b'NESTED     ', b'FAT16   ')
    fat = [0xfff8, 0xffff]
    data = bytearray()

    def store(content):
        """Append CONTENT as a chain of clusters; its first cluster."""
        count = -(-len(content) // CLUSTER)
        first = len(fat)
        fat.extend(range(first + 1, first + count))
        fat.append(0xffff)
        data.extend(content.ljust(count * CLUSTER, b'\0'))
        return first

    def entry(name, directory, first, length):
        stem, _, extension = name.partition('.')
        short = stem.ljust(8) + extension.ljust(3) if name.strip('.') else name.ljust(11)
        return struct.pack('<11sB14xHL', short.encode(), 0x10 if directory else 0x20, first,
                           length)

    def directory(tree, root):
        # ".." should name the parent, but nothing follows it here: 0 is the root
        out = b'' if root else entry('.', True, len(fat), 0) + entry('..', True, 0, 0)
        if not root:
            first = len(fat)
            fat.append(0xffff)
            place = len(data)
            data.extend(bytes(CLUSTER))
        for name, content in tree.items():
            if isinstance(content, dict):
                out += entry(name, True, directory(content, False), 0)
            else:
                out += entry(name, False, store(content), len(content))
        if root:
            return out
        data[place:place + len(out)] = out
        return first

    tree = {}
    for path, content in files.items():
        *parents, name = path.split('/')
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = content
    root = directory(tree, True)
    assert len(data) <= clusters * CLUSTER, 'the files do not fit'

    out = bytearray(size)
    out[:len(boot)] = boot
    out[510:512] = b'\x55\xaa'
    table = struct.pack('<%dH' % len(fat), *fat)
    for n in range(2):
        at = (1 + n * fat_sectors) * SECTOR
        out[at:at + len(table)] = table
    at = (1 + 2 * fat_sectors) * SECTOR
    out[at:at + len(root)] = root
    out[data_start:data_start + len(data)] = data
    return bytes(out)
