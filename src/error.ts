/** The one base of every refusal: a stable code for programs, a sentence for people. */

/**
 * Input that was refused. Each room has a subclass over its own closed union of codes, so that
 * `switch (error.code)` is checked by the compiler. Our own mistakes are `assert`s instead, and an
 * expected outcome of the domain is a value.
 */
export abstract class BootproofError<Code extends string = string> extends Error {
  readonly code: Code;

  constructor(code: Code, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}
