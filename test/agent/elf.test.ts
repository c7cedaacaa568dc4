/** Stripping and embedding, held against the Node that runs this, and against programs that are none. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { embedded, machineOf, stripped } from '#packaging/elf.ts';

const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:0';
const [EHDR, PHDR, SHDR] = [64, 56, 64];

type Segment = { type: number; offset: number; vaddr: number; filesz: number; memsz: number };
type Section = { name: string; flags: number; offset: number; size: number; link?: number };

/** An ELF program in small: its segments' table, 256 bytes that are loaded, with a note and the fuse, and behind them what is not. */
function program(machine = 62): Buffer {
  const segments: Segment[] = [
    { type: 6, offset: EHDR, vaddr: 0x400040, filesz: 4 * PHDR, memsz: 4 * PHDR },
    { type: 1, offset: 0, vaddr: 0x400000, filesz: 1024, memsz: 0x20000 },
    { type: 4, offset: 512, vaddr: 0x400200, filesz: 18, memsz: 18 },
    { type: 0x6474e551, offset: 0, vaddr: 0, filesz: 0, memsz: 0 },
  ];
  const names = '\0.symtab\0.text\0.shstrtab\0.dynsym\0';
  const sections: Section[] = [
    { name: '', flags: 0, offset: 0, size: 0 },
    { name: '.symtab', flags: 0, offset: 1024, size: 100 },
    { name: '.text', flags: 6, offset: 600, size: 100 },
    { name: '.dynsym', flags: 2, offset: 700, size: 10, link: 2 },
    { name: '.shstrtab', flags: 0, offset: 1124, size: names.length },
  ];
  const bytes = Buffer.alloc(1200 + sections.length * SHDR);
  bytes.write('\x7fELF\x02\x01\x01', 0, 'latin1');
  bytes.writeUInt16LE(2, 16);
  bytes.writeUInt16LE(machine, 18);
  bytes.writeBigUInt64LE(64n, 32);
  bytes.writeBigUInt64LE(1200n, 40);
  for (const [at, value] of [
    [54, PHDR],
    [56, segments.length],
    [58, SHDR],
    [60, sections.length],
    [62, 4],
  ] as const)
    bytes.writeUInt16LE(value, at);
  for (const [index, { type, offset, vaddr, filesz, memsz }] of segments.entries()) {
    const at = EHDR + index * PHDR;
    bytes.writeUInt32LE(type, at);
    for (const [field, value] of [
      [8, offset],
      [16, vaddr],
      [24, vaddr],
      [32, filesz],
      [40, memsz],
    ] as const)
      bytes.writeBigUInt64LE(BigInt(value), at + field);
  }
  for (const [index, { name, flags, offset, size, link = 0 }] of sections.entries()) {
    const at = 1200 + index * SHDR;
    bytes.writeUInt32LE(name === '' ? 0 : names.indexOf(name), at);
    for (const [field, value] of [
      [8, flags],
      [24, offset],
      [32, size],
    ] as const)
      bytes.writeBigUInt64LE(BigInt(value), at + field);
    bytes.writeUInt32LE(link, at + 40);
  }
  bytes.write('old note, 18 bytes', 512);
  bytes.write(FUSE, 800);
  bytes.write('symbols', 1024);
  bytes.write(names, 1124, 'latin1');
  return bytes;
}

test('the machine of a program is told, and what is no such program is refused', () => {
  assert.equal(machineOf(program(62)), 'x64');
  assert.equal(machineOf(program(183)), 'arm64');
  for (const bytes of [Buffer.alloc(0), Buffer.from('#!/bin/sh\n'.repeat(10)), program(3), program().subarray(0, 40)])
    assert.throws(() => machineOf(bytes), /no ELF program/);
});

test('stripping takes what is not loaded, keeps every loaded byte in its place, and counts sections anew', () => {
  const before = program();
  const after = stripped(before);
  assert.ok(!after.includes('symbols'));
  // But for where the sections stand, and how many there are.
  const blank = (bytes: Buffer) => Buffer.concat([bytes.subarray(0, 40), bytes.subarray(64, 1024)]);
  assert.deepEqual(blank(after), blank(before));
  const at = Number(after.readBigUInt64LE(40));
  const count = after.readUInt16LE(60);
  const namesAt = Number(after.readBigUInt64LE(at + after.readUInt16LE(62) * SHDR + 24));
  const found = Array.from({ length: count }, (_, index) => {
    const section = after.subarray(at + index * SHDR, at + (index + 1) * SHDR);
    const from = namesAt + section.readUInt32LE(0);
    return [after.toString('latin1', from, after.indexOf(0, from)), section.readUInt32LE(40)];
  });
  assert.deepEqual(found, [
    ['', 0],
    ['.text', 0],
    ['.dynsym', 1],
    ['.shstrtab', 0],
  ]);
  assert.equal(after.length, at + count * SHDR);
  assert.deepEqual(stripped(after), after, 'nothing is left to take');
});

test('what is embedded is a note in a segment of its own, on pages of its own whatever their size, and the fuse says so', () => {
  const node = stripped(program());
  const blob = Buffer.from('a program');
  const made = embedded(node, blob);
  assert.ok(made.includes(FUSE.replace(/0$/, '1')));
  const table = Array.from({ length: made.readUInt16LE(56) }, (_, index) => {
    const number = (field: number) => Number(made.readBigUInt64LE(EHDR + index * PHDR + field));
    return { type: made.readUInt32LE(EHDR + index * PHDR), offset: number(8), vaddr: number(16), filesz: number(32) };
  });
  assert.deepEqual(
    table.map(({ type }) => type),
    [1, 1, 4, 0x6474e551],
  );
  const [first, load, note] = table as [Segment, Segment, Segment];
  assert.equal(load.vaddr % 65_536, 0);
  assert.equal(load.offset % 65_536, 0);
  assert.ok(load.vaddr >= first.vaddr + 0x20000, 'behind all that the program has in memory');
  assert.deepEqual({ ...note, type: 1 }, load);
  const notes = made.subarray(load.offset, load.offset + load.filesz);
  assert.equal(notes.toString('latin1', 0, 18), 'old note, 18 bytes');
  assert.equal(notes.readUInt32LE(20), 14);
  assert.equal(notes.readUInt32LE(24), blob.length);
  assert.equal(notes.toString('latin1', 32, 46), 'NODE_SEA_BLOB\0');
  assert.equal(notes.toString('latin1', 48, 48 + blob.length), 'a program');
  assert.equal(made.length, load.offset + load.filesz);
});

test('a Node that holds a program already, one without the fuse, and one that is position-independent are refused', () => {
  const made = embedded(program(), Buffer.from('x'));
  assert.throws(() => embedded(made, Buffer.from('x')), /holds one already/);
  const pie = program();
  pie.writeUInt16LE(3, 16);
  assert.throws(() => embedded(pie, Buffer.from('x')), /position-independent/);
  const noNote = program();
  noNote.writeUInt32LE(0, EHDR + 2 * PHDR);
  assert.throws(() => embedded(noNote, Buffer.from('x')), /one segment of type 4, found 0/);
});
