/**
 * Scanner for one line of a listing: words, JSON strings and JSON values, with places for messages.
 *
 * Blanks and commas separate; `;` outside of a string starts a comment. It never goes past its line.
 */

import { type DiagnosticCode, fail } from "../../diagnostics.js";
import { type Reader, readLooseJson } from "../image/metadata.js";

export class LineScanner {
  private readonly file: string;
  private readonly line: number;
  private readonly text: string;
  private position = 0;

  constructor(file: string, line: number, text: string) {
    this.file = file;
    this.line = line;
    this.text = text;
  }

  /** Whether only blanks and a comment are left. */
  get done(): boolean {
    SEPARATORS.lastIndex = this.position;
    SEPARATORS.test(this.text);
    this.position = SEPARATORS.lastIndex;
    return this.position >= this.text.length || this.text[this.position] === ";";
  }

  /** `file:line:col` of what comes next. */
  get at(): string {
    void this.done;
    return this.place(this.position);
  }

  /** Everything up to the next blank, comma or comment. */
  word(expected: string): string {
    if (this.done) this.refuse("LPU3040", `expected ${expected}, got the end of the line`);
    WORD.lastIndex = this.position;
    const [word = ""] = WORD.exec(this.text) ?? [];
    this.position += word.length;
    return word;
  }

  /** Whether the next word begins so. */
  begins(prefix: string): boolean {
    return !this.done && this.text.startsWith(prefix, this.position);
  }

  /** A word that is a whole number of at least 0, after `prefix`. */
  number(expected: string, prefix = ""): number {
    const at = this.at;
    const word = this.word(expected);
    if (!word.startsWith(prefix) || !/^\d{1,16}$/.test(word.slice(prefix.length))) {
      fail("LPU3040", { message: `expected ${prefix}${expected}, got '${word}'`, at });
    }
    return Number(word.slice(prefix.length));
  }

  /** A JSON string. */
  string(expected: string): string {
    const at = this.at;
    STRING.lastIndex = this.position;
    const literal = STRING.exec(this.text)?.[0];
    if (literal === undefined) return fail("LPU3040", { message: `expected ${expected} in double quotes`, at });
    this.position += literal.length;
    try {
      return String(JSON.parse(literal));
    } catch {
      return fail("LPU3040", { message: `expected a JSON string, got ${literal}`, at });
    }
  }

  /** A JSON list or record, up to the bracket that closes it. */
  json<T>(expected: string, reader: Reader<T>): T {
    const at = this.at;
    return readLooseJson(this.balanced(expected), at, reader);
  }

  private balanced(expected: string): string {
    const at = this.at;
    const start = this.position;
    let depth = 0;
    do {
      const character = this.text[this.position];
      if (character === undefined) fail("LPU3040", { message: `expected ${expected}, got the end of the line`, at });
      STRING.lastIndex = this.position;
      const literal = character === '"' ? STRING.exec(this.text)?.[0] : undefined;
      this.position += literal?.length ?? 1;
      if (character === "[" || character === "{") depth++;
      else if (character === "]" || character === "}") depth--;
    } while (depth > 0);
    return this.text.slice(start, this.position);
  }

  /** Whether a given text comes next; takes it if so. */
  take(text: string): boolean {
    if (!this.next(text)) return false;
    this.position += text.length;
    return true;
  }

  /** Whether a given text comes next. */
  next(text: string): boolean {
    return !this.done && this.text.startsWith(text, this.position);
  }

  end(): void {
    if (!this.done) this.refuse("LPU3040", `expected the end of the line, got '${this.text.slice(this.position)}'`);
  }

  refuse(code: DiagnosticCode, message: string): never {
    return fail(code, { message, at: this.place(this.position) });
  }

  private place(position: number): string {
    return `${this.file}:${this.line}:${position + 1}`;
  }
}

const SEPARATORS = /[\s,]*/y;
const WORD = /[^\s,;]*/y;
const STRING = /"(?:[^"\\]|\\.)*"/y;
