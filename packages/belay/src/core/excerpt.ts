// Text that somebody else made, cut to a length that is ours: what goes into an entry is bounded, and
// a reader sees that there was more. Lone surrogates, which no entry can hold, are replaced.

/** At most `most` UTF-16 code units; one that was longer ends in `…`. */
export function excerpt(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most - 1).toWellFormed()}…`;
}
