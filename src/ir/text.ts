/**
 * The lexer of the text forms: words, numbers, strings and marks, each with its place, and a reader over them.
 *
 * `;` starts a comment that ends with the line. Strings are as in JSON. Numbers are decimal, or `inf`, `-inf` and `nan`.
 * Every complaint is LPU3010 with `file:line:col`. `formatNumber` and `formatName` write what the lexer reads back exactly.
 */

import { fail } from "../diagnostics.js";

export type TokenKind = "word" | "number" | "string" | "mark" | "end";

export interface Token {
  readonly kind: TokenKind;
  /** Spelling; of a string, its contents. */
  readonly text: string;
  readonly line: number;
  readonly column: number;
}

/** Tried in order at each place; white space and comments make no token. */
const PATTERNS: readonly { readonly kind: TokenKind | "space"; readonly pattern: RegExp }[] = [
  { kind: "space", pattern: /(?:\s|;[^\n]*)+/y },
  { kind: "number", pattern: /(?:-?(?:\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|inf)|nan)(?!\w)/y },
  { kind: "word", pattern: /[A-Za-z_]\w*/y },
  { kind: "string", pattern: /"(?:[^"\\\n]|\\.)*"/y },
  { kind: "mark", pattern: /->|[()[\]{}<>,:=%@~*/-]/y },
];

export function tokenize(text: string, file: string): Token[] {
  const tokens: Token[] = [];
  let [at, line, lineStart] = [0, 1, 0];
  while (at < text.length) {
    const found = matchAt(text, at);
    const place = { line, column: at - lineStart + 1 };
    if (found === undefined) {
      const spelling = JSON.stringify(
        text.slice(at, at + 1) === '"'
          ? text.slice(at).split("\n")[0]
          : String.fromCodePoint(text.codePointAt(at) ?? 0),
      );
      return fail("LPU3010", {
        message: `expected a word, number, string or mark, got ${spelling}`,
        at: `${file}:${place.line}:${place.column}`,
      });
    }
    const { kind, spelling } = found;
    if (kind === "string")
      tokens.push({ kind, text: unquote(spelling, `${file}:${place.line}:${place.column}`), ...place });
    else if (kind !== "space") tokens.push({ kind, text: spelling, ...place });
    for (let newline = spelling.indexOf("\n"); newline >= 0; newline = spelling.indexOf("\n", newline + 1)) {
      line += 1;
      lineStart = at + newline + 1;
    }
    at += spelling.length;
  }
  tokens.push({ kind: "end", text: "end of text", line, column: at - lineStart + 1 });
  return tokens;
}

function matchAt(
  text: string,
  at: number,
): { readonly kind: TokenKind | "space"; readonly spelling: string } | undefined {
  for (const { kind, pattern } of PATTERNS) {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match !== null) return { kind, spelling: match[0] };
  }
  return undefined;
}

function unquote(spelling: string, at: string): string {
  try {
    return String(JSON.parse(spelling));
  } catch {
    return fail("LPU3010", { message: `expected a string as in JSON, got ${spelling}`, at });
  }
}

/** Reads tokens one after another. */
export class TokenReader {
  private readonly tokens: readonly Token[];
  private readonly file: string;
  private at = 0;

  constructor(text: string, file: string) {
    this.tokens = tokenize(text, file);
    this.file = file;
  }

  peek(ahead = 0): Token {
    return this.tokens[Math.min(this.at + ahead, this.tokens.length - 1)] ?? END;
  }

  next(): Token {
    const token = this.peek();
    this.at += 1;
    return token;
  }

  /** Whether a mark or word comes next. */
  sees(text: string): boolean {
    const token = this.peek();
    return token.text === text && (token.kind === "mark" || token.kind === "word");
  }

  /** Takes a mark or word if it comes next. */
  accept(text: string): boolean {
    const seen = this.sees(text);
    if (seen) this.at += 1;
    return seen;
  }

  expect(text: string): Token {
    return this.sees(text) ? this.next() : this.wrong(`'${text}'`);
  }

  take(kind: TokenKind, what: string): Token {
    return this.peek().kind === kind ? this.next() : this.wrong(what);
  }

  number(what = "a number"): number {
    return parseNumber(this.take("number", what).text);
  }

  integer(what = "an integer"): number {
    const token = this.peek();
    const value = this.number(what);
    return Number.isSafeInteger(value) ? value : this.complain(`expected ${what}, got ${token.text}`, token);
  }

  /** Items between two marks, separated by commas. */
  list<Item>(open: string, close: string, item: () => Item): Item[] {
    this.expect(open);
    const items: Item[] = [];
    if (this.accept(close)) return items;
    do items.push(item());
    while (this.accept(","));
    this.expect(close);
    return items;
  }

  where(token: Token): string {
    return `${this.file}:${token.line}:${token.column}`;
  }

  complain(message: string, token: Token): never {
    return fail("LPU3010", { message, at: this.where(token) });
  }

  private wrong(what: string): never {
    const token = this.peek();
    return this.complain(
      `expected ${what}, got ${token.kind === "string" ? JSON.stringify(token.text) : token.kind === "end" ? token.text : `'${token.text}'`}`,
      token,
    );
  }
}

const END: Token = { kind: "end", text: "end of text", line: 1, column: 1 };

const WORD_NUMBERS: Readonly<Record<string, number>> = {
  inf: Number.POSITIVE_INFINITY,
  "-inf": Number.NEGATIVE_INFINITY,
  nan: Number.NaN,
};
export const parseNumber = (text: string): number => WORD_NUMBERS[text] ?? Number(text);

/** A number so that `parseNumber` gives the same one, sign of zero included. */
export function formatNumber(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (Math.abs(value) === Number.POSITIVE_INFINITY) return value < 0 ? "-inf" : "inf";
  return Object.is(value, -0) ? "-0" : String(value);
}

/** A name after `@`: bare where it is a word, else a string. */
export const formatName = (name: string): string =>
  /^[A-Za-z_]\w*$/.test(name) && name !== "inf" && name !== "nan" ? name : JSON.stringify(name);
