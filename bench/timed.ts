/** Runs one shell command and prints what getrusage(2) says of it; a process of its own, because RUSAGE_CHILDREN only ever adds up. */
import { spawnSync } from 'node:child_process';
import { dlopen } from 'node:ffi';

const RUSAGE_CHILDREN = -1;
const { functions: libc } = dlopen(null, { getrusage: { arguments: ['int32', 'buffer'], return: 'int32' } });

const started = process.hrtime.bigint();
const ran = spawnSync('/bin/sh', ['-c', process.argv[2] ?? ''], { stdio: ['ignore', 'ignore', 'inherit'] });
const wall = Number(process.hrtime.bigint() - started) / 1e9;
// struct rusage on 64-bit Linux: two timevals (s, µs), then ru_maxrss in KiB of the largest child.
const usage = Buffer.alloc(256);
if (libc.getrusage(RUSAGE_CHILDREN, usage) !== 0) throw new Error('getrusage failed');
const seconds = (at: number) => Number(usage.readBigInt64LE(at)) + Number(usage.readBigInt64LE(at + 8)) / 1e6;
process.stdout.write(
  JSON.stringify({ wall, cpu: seconds(0) + seconds(16), peakMiB: Number(usage.readBigInt64LE(32)) / 1024 }),
);
process.exitCode = ran.status ?? 1;
