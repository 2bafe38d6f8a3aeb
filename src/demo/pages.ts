// The HTML that Drupal shows to people and, by mistake, to programs. Markup only: it decides nothing.

const TITLES: Record<number, [string, string]> = {
  401: ['Unauthorized', 'Please log in to access this page.'],
  403: ['Access denied', 'You are not authorized to access this page.'],
  404: ['Page not found', 'The requested page could not be found.'],
  405: ['Client error', 'A client error happened'],
  413: ['Client error', 'A client error happened']
}

/** Text made harmless for an HTML document or attribute. */
export function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
}

/** A whole page in the site's frame; `content` is markup. */
export function page(title: string, content: string): string {
  return `<!DOCTYPE html>
<html lang="en" dir="ltr">
  <head>
    <meta charset="utf-8" />
<meta name="Generator" content="Drupal 10 (https://www.drupal.org)" />
<meta name="viewport" content="width=device-width, initial-scale=1.0" />
    <title>${escapeHtml(title)}</title>
  </head>
  <body>
    <main role="main"><h1>${escapeHtml(title)}</h1>
${content}
    </main>
  </body>
</html>
`
}

/** Drupal's page for an HTTP error. */
export function errorPage(status: number): string {
  const [title, text] = TITLES[status] ?? [
    'Error',
    'The website encountered an unexpected error. Try again later.'
  ]
  return page(title, `<p>${text}</p>`)
}

/** Symfony's page behind a Location header. */
export function refreshPage(location: string): string {
  const target = escapeHtml(location)
  return `<!DOCTYPE html>
<html>
    <head>
        <meta charset="UTF-8" />
        <meta http-equiv="refresh" content="0;url='${target}'" />

        <title>Redirecting to ${target}</title>
    </head>
    <body>
        Redirecting to <a href="${target}">${target}</a>.
    </body>
</html>`
}

export interface FormPage {
  title: string
  /** where the form is posted to, query included */
  action: string
  formId: string
  hidden: Record<string, string>
  /** markup between the title and the buttons */
  content: string
  /** the values of the `op` buttons */
  buttons: string[]
  /** said above the form, when the last submission failed */
  error?: string | undefined
}

/** A page with one Drupal form: hidden fields, the given markup, `op` buttons. */
export function formPage(form: FormPage): string {
  const hidden = Object.entries({ ...form.hidden, form_id: form.formId }).map(
    ([name, value]) => `<input type="hidden" name="${name}" value="${escapeHtml(value)}" />`
  )
  const buttons = form.buttons.map(op => `<input type="submit" name="op" value="${op}" />`)
  const error = form.error
    ? `<div role="alert" class="messages--error">${escapeHtml(form.error)}</div>`
    : ''
  return page(
    form.title,
    `${error}<form action="${escapeHtml(form.action)}" method="post" id="${form.formId.replaceAll('_', '-')}">
${form.content}
${hidden.join('\n')}
${buttons.join('\n')}
</form>`
  )
}
