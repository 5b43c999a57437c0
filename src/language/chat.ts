/**
 * Chats as text: the template that a model was trained with, rendered by Hugging Face's own package, which is optional.
 */

import { fail } from "../diagnostics.js";
import { optionalPackage } from "./packages.js";

export interface Message {
  /** Who speaks, as the template knows them: system, user, assistant, say. */
  readonly role: string;
  readonly content: string;
}

/** Messages to the text that the answer of the assistant follows. LPU5109 for messages that the template refuses. */
export type ChatTemplate = (messages: readonly Message[]) => string;

/**
 * `source` is the content of chat_template.jinja; without it, `config`, the content of tokenizer_config.json, has the template,
 * alone or as the one that is called default. Undefined if there is none. A template may ask what day it is.
 *
 * @throws LPU5102 without the package, LPU5109 for a template that cannot be read.
 */
export async function openTemplate(source: string | undefined, config: object): Promise<ChatTemplate | undefined> {
  const text = source ?? templateIn(config);
  if (text === undefined) return undefined;
  // The boundary to the package, of which this is needed.
  interface Loaded {
    readonly render: (values: Readonly<Record<string, unknown>>) => string;
  }
  const { Template } = (await optionalPackage("@huggingface/jinja")) as {
    readonly Template: new (text: string) => Loaded;
  };
  const template = said("cannot be read", () => new Template(text));
  const special = specialTokens(config);
  return (messages) =>
    said("refuses the messages", () => template.render({ ...special, messages, add_generation_prompt: true }));
}

/** For messages where there is no template: LPU5109. */
export const noTemplate = (): never =>
  fail("LPU5109", {
    message: "expected a chat template in tokenizer_config.json or chat_template.jinja, found none",
    hint: "give a prompt of plain text: this model was not made to chat",
  });

function templateIn(config: object): string | undefined {
  const given: unknown = "chat_template" in config ? config.chat_template : undefined;
  if (typeof given === "string") return given;
  if (!Array.isArray(given)) return undefined;
  const named = given.flatMap((row: unknown) =>
    typeof row === "object" && row !== null && "name" in row && "template" in row && typeof row.template === "string"
      ? [{ name: row.name, template: row.template }]
      : [],
  );
  return named.find(({ name }) => name === "default")?.template;
}

/** `bos_token` and its like: a text, or a record that holds it. */
const specialTokens = (config: object): Readonly<Record<string, string>> =>
  Object.fromEntries(
    Object.entries(config).flatMap(([name, value]: [string, unknown]) => {
      const text = typeof value === "object" && value !== null && "content" in value ? value.content : value;
      return name.endsWith("_token") && typeof text === "string" ? [[name, text]] : [];
    }),
  );

/** What the package and the template refuse they say in errors of their own. */
function said<Value>(what: string, work: () => Value): Value {
  try {
    return work();
  } catch (error) {
    return fail("LPU5109", {
      message: `the chat template ${what}: ${error instanceof Error ? error.message : String(error)}`,
    });
  }
}
