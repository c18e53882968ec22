// Prompts as the model's captions were made: a template, and a word for each column that it names.
"use strict";

const NAME = /{(\w+)}/g;
const MOST_WORDS = 400; // combinations that a prompt is looked for among

/** The columns that a template names. */
export const columnsOf = (template) => [...template.matchAll(NAME)].map((found) => found[1]);

/** A template with its words; a clause in brackets that lacks one is left out. As the captions were made. */
export function fill(template, words) {
  const said = template.replace(/\[([^\]]*)\]/g, (_, clause) =>
    clause.split("|").find((option) => columnsOf(option).every((name) => words[name])) ?? "");
  const text = said.replace(NAME, (_, name) => words[name] ?? "").replace(/\s+/g, " ").replaceAll(" ,", ",");
  return text.replace(/(,\s*)+(?=,)|,\s*$/g, "").replace(/^[ ,]+|[ ,]+$/g, "");
}

/** The columns whose words a phrasing says; a clause may need several at once. */
const said = (template, words) => Object.keys(words).filter((name) => words[name] && fill(template, words) !== fill(template, { ...words, [name]: "" }));

const best = (kind, words) => kind.templates.reduce((one, other) => (said(other, words).length > said(one, words).length ? other : one));

/** How a kind of image says `words`: by the first phrasing that says the most of them. */
export const say = (kind, words) => fill(best(kind, words), words);

/** The columns that cannot be said yet, each with those that it is said together with. */
export function unsaid(kind, words) {
  const done = said(best(kind, words), words);
  const left = Object.keys(words).filter((name) => words[name] && !done.includes(name));
  return left.map((name) => {
    const clauses = kind.templates.flatMap((template) => template.match(/\[[^\]]*\]/g) ?? []).filter((clause) => clause.includes(`{${name}}`));
    return { name, needs: columnsOf(clauses[0] ?? "").filter((other) => !words[other]) };
  });
}

/** Which words of a kind give `text`; null where no phrasing does. */
function read(kind, text) {
  const options = Object.entries(kind.words).map(([name, words]) =>
    [name, ["", ...(words.length ? words.filter((word) => text.includes(word)) : text.match(/\b\d{1,3}\b/g) ?? [])]]);
  let all = [{}];
  for (const [name, words] of options) {
    all = all.flatMap((one) => words.map((word) => (word ? { ...one, [name]: word } : one)));
    if (all.length > MOST_WORDS) return null;
  }
  // those that say more first: what a phrasing has no place for would be lost
  all.sort((a, b) => Object.keys(a).length - Object.keys(b).length);
  return all.find((words) => say(kind, words) === text) ?? all.find((words) => kind.templates.some((template) => fill(template, words) === text)) ?? null;
}

/** What a text says in the words of a model: its kind and words, `exact` where nothing else is said. */
export function understand(kinds, text) {
  for (const kind of kinds) {
    const words = read(kind, text);
    if (words) return { kind, words, exact: true };
  }
  const begins = kinds.filter((kind) => text.toLowerCase().startsWith(kind.kind.toLowerCase()));
  const kind = begins.sort((a, b) => b.kind.length - a.kind.length)[0] ?? null;
  return { kind, words: {}, exact: false };
}
