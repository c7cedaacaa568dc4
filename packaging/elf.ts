/**
 * ELF programs: which machine one is for, one without the symbols and debugging sections that nothing reads at run time, and a Node that
 * holds a program of its own.
 */

export type Machine = 'x64' | 'arm64';

/** Offsets and values of the 64-bit little-endian form: System V ABI, "ELF Header", "Sections", "Program Header". */
const EHDR = {
  type: 16,
  machine: 18,
  phoff: 32,
  shoff: 40,
  phentsize: 54,
  phnum: 56,
  shentsize: 58,
  shnum: 60,
  shstrndx: 62,
};
const SHDR = { name: 0, flags: 8, offset: 24, size: 32, link: 40, info: 44, length: 64 };
const PHDR = { type: 0, flags: 4, offset: 8, vaddr: 16, paddr: 24, filesz: 32, memsz: 40, align: 48, length: 56 };
const MACHINES: ReadonlyMap<number, Machine> = new Map([
  [62, 'x64'],
  [183, 'arm64'],
]);
const PT_LOAD = 1;
const PT_NOTE = 4;
const PT_PHDR = 6;
const PF_R = 4;
const SHF_ALLOC = 2n;
const SHF_INFO_LINK = 0x40n;

/** The machine of a 64-bit little-endian ELF program. @throws for anything else. */
export function machineOf(program: Buffer): Machine {
  const magic = program.length >= 64 && program.readUInt32BE(0) === 0x7f454c46 && program[4] === 2 && program[5] === 1;
  const machine = magic ? MACHINES.get(program.readUInt16LE(EHDR.machine)) : undefined;
  if (machine === undefined) throw new Error('this is no ELF program for x86-64 or aarch64');
  return machine;
}

/**
 * The program without all sections that are not loaded: what `strip` takes away, for any machine and with the same bytes everywhere, which
 * different versions of binutils would not give. What is loaded keeps its place.
 */
export function stripped(program: Buffer): Buffer {
  machineOf(program);
  const number = (at: number) => Number(program.readBigUInt64LE(at));
  const [phoff, phnum] = [number(EHDR.phoff), program.readUInt16LE(EHDR.phnum)];
  const [shoff, shnum] = [number(EHDR.shoff), program.readUInt16LE(EHDR.shnum)];
  if (program.readUInt16LE(EHDR.phentsize) !== PHDR.length || program.readUInt16LE(EHDR.shentsize) !== SHDR.length)
    throw new Error('this ELF program has headers of another length than its form says');
  let end = phoff + phnum * PHDR.length;
  for (let at = phoff; at < phoff + phnum * PHDR.length; at += PHDR.length)
    if (program.readUInt32LE(at + PHDR.type) === PT_LOAD)
      end = Math.max(end, number(at + PHDR.offset) + number(at + PHDR.filesz));

  const header = (index: number) => program.subarray(shoff + index * SHDR.length, shoff + (index + 1) * SHDR.length);
  const names = header(program.readUInt16LE(EHDR.shstrndx));
  const namesAt = Number(names.readBigUInt64LE(SHDR.offset));
  const nameOf = (section: Buffer) => {
    const from = namesAt + section.readUInt32LE(SHDR.name);
    return program.toString('latin1', from, program.indexOf(0, from));
  };
  const all = Array.from({ length: shnum }, (_, index) => header(index));
  const kept = all.filter((section, index) => index === 0 || (section.readBigUInt64LE(SHDR.flags) & SHF_ALLOC) !== 0n);
  // Sections name each other by number.
  const place = new Map(kept.map((section, index) => [all.indexOf(section), index]));
  let table = '\0';
  const take = (section: Buffer, name: string): Buffer => {
    const copy = Buffer.from(section);
    copy.writeUInt32LE(name === '' ? 0 : table.length, SHDR.name);
    if (name !== '') table += `${name}\0`;
    return copy;
  };
  const headers = kept.map((section) => {
    const copy = take(section, nameOf(section));
    copy.writeUInt32LE(place.get(section.readUInt32LE(SHDR.link)) ?? 0, SHDR.link);
    if ((section.readBigUInt64LE(SHDR.flags) & SHF_INFO_LINK) !== 0n)
      copy.writeUInt32LE(place.get(section.readUInt32LE(SHDR.info)) ?? 0, SHDR.info);
    return copy;
  });
  const own = take(names, '.shstrtab');
  own.writeBigUInt64LE(BigInt(end), SHDR.offset);
  own.writeBigUInt64LE(BigInt(table.length), SHDR.size);
  headers.push(own);
  const head = Buffer.from(program.subarray(0, end));
  const padding = Buffer.alloc(-(end + table.length) & 7);
  head.writeBigUInt64LE(BigInt(end + table.length + padding.length), EHDR.shoff);
  head.writeUInt16LE(headers.length, EHDR.shnum);
  head.writeUInt16LE(headers.length - 1, EHDR.shstrndx);
  return Buffer.concat([head, Buffer.from(table, 'latin1'), padding, ...headers]);
}

/** Where Node looks for a program of its own (src/node_sea.cc): a note of this name, if the fuse says that there is one. */
const NOTE = 'NODE_SEA_BLOB';
const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:';
/** The largest page of any kernel that runs these programs: aarch64 has them with 64 KiB too. */
const PAGE = 64 * 1024;

/**
 * A Node that runs `blob`, as `node --experimental-sea-config` writes it. `node --build-sea` does the same with segments that share a page
 * with others where pages have 64 KiB, and moves the notes by the way; here nothing of Node is moved. The table of segments has no room for
 * one more: it takes the place of the entry that names the table itself, which only position-independent programs need.
 * @throws for a program that is no such Node, or has a blob already.
 */
export function embedded(node: Buffer, blob: Uint8Array): Buffer {
  const program = Buffer.from(node);
  const fuse = program.indexOf(`${FUSE}0`, 0, 'latin1');
  if (fuse < 0) throw new Error('this Node cannot hold a program of its own, or holds one already');
  program.write('1', fuse + FUSE.length, 'latin1');
  const ET_EXEC = 2;
  if (program.readUInt16LE(EHDR.type) !== ET_EXEC) throw new Error('this Node is position-independent');

  const phoff = Number(program.readBigUInt64LE(EHDR.phoff));
  const table: Buffer[] = Array.from({ length: program.readUInt16LE(EHDR.phnum) }, (_, index) =>
    Buffer.from(program.subarray(phoff + index * PHDR.length, phoff + (index + 1) * PHDR.length)),
  );
  const only = (type: number): Buffer => {
    const found = table.filter((entry) => entry.readUInt32LE(PHDR.type) === type);
    if (found.length !== 1) throw new Error(`expected one segment of type ${type}, found ${found.length}`);
    return found[0]!;
  };
  const number = (entry: Buffer, at: number) => Number(entry.readBigUInt64LE(at));
  const up = (value: number, to: number) => Math.ceil(value / to) * to;
  const note = only(PT_NOTE);
  const old = program.subarray(number(note, PHDR.offset), number(note, PHDR.offset) + number(note, PHDR.filesz));
  const head = Buffer.alloc(12 + up(NOTE.length + 1, 4));
  head.writeUInt32LE(NOTE.length + 1, 0);
  head.writeUInt32LE(blob.length, 4);
  head.write(NOTE, 12, 'latin1');
  const notes = Buffer.concat([old, Buffer.alloc(-old.length & 3), head, blob, Buffer.alloc(-blob.length & 3)]);

  const loads = table.filter((entry) => entry.readUInt32LE(PHDR.type) === PT_LOAD);
  const at = up(Math.max(...loads.map((entry) => number(entry, PHDR.vaddr) + number(entry, PHDR.memsz))), PAGE);
  const offset = up(program.length, PAGE);
  const segment = (type: number, align: number): Buffer => {
    const entry = Buffer.alloc(PHDR.length);
    entry.writeUInt32LE(type, PHDR.type);
    entry.writeUInt32LE(PF_R, PHDR.flags);
    for (const [field, value] of [
      [PHDR.offset, offset],
      [PHDR.vaddr, at],
      [PHDR.paddr, at],
      [PHDR.filesz, notes.length],
      [PHDR.memsz, notes.length],
      [PHDR.align, align],
    ] as const)
      entry.writeBigUInt64LE(BigInt(value), field);
    return entry;
  };
  // Segments that are loaded stand in the order of their addresses.
  const behind = table.indexOf(loads.at(-1)!);
  const entries = table.toSpliced(behind + 1, 0, segment(PT_LOAD, PAGE));
  entries.splice(entries.indexOf(note), 1, segment(PT_NOTE, 4));
  entries.splice(entries.indexOf(only(PT_PHDR)), 1);
  Buffer.concat(entries).copy(program, phoff);
  return Buffer.concat([program, Buffer.alloc(offset - program.length), notes]);
}
