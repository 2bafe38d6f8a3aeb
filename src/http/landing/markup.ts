// HTML that cannot be injected into: every text that is put into a template is escaped unless it came out of one. It refuses
// to know the page.

/** A piece of HTML that was made by `html`. */
export class Markup {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;'
}

/** Text as it may stand in an element or in a quoted attribute. Pure. */
function escape(text: string): string {
  return text.replace(/[&<>"']/g, character => ESCAPES[character] as string)
}

type Value = string | Markup | readonly Markup[]

/** A template of HTML: its own text is kept, every string put in is escaped, markup put in is not. Pure. */
export function html(strings: TemplateStringsArray, ...values: readonly Value[]): Markup {
  const parts = values.map((value, index) => {
    const text =
      typeof value === 'string'
        ? escape(value)
        : value instanceof Markup
          ? value.text
          : value.map(piece => piece.text).join('')
    return text + strings[index + 1]
  })
  return new Markup(strings[0] + parts.join(''))
}
