/**
 * How deep tests go. `npm test` takes a part of what is tried over and over (bytes that are flipped, processes that are killed, hours of a
 * storm); TEST_DEPTH=full takes all of it, as `.ci/run` does where it runs the tests as an ordinary user.
 */
export const isFull = process.env['TEST_DEPTH'] === 'full';

/** One of the two, as deep as this run goes. */
export const deep = <T>(all: T, part: T): T => (isFull ? all : part);
