// What the page for people says: the site, the address, how each client is told about it, how the sign-in goes, and the list
// that the script tests. Everything in it comes from the configuration; it refuses to know the request.
import { createHash } from 'node:crypto'
import { issuersOf } from '../../auth/metadata-location.ts'
import { reach } from '../../config/address.ts'
import type { Config } from '../../config/schema.ts'
import {
  type Client,
  clients,
  connectConfiguration,
  curlCommand,
  loginCommand,
  type Snippet
} from './clients.ts'
import { html, Markup } from './markup.ts'
import { script } from './script.ts'
import { style } from './style.ts'

const mark = `<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" aria-hidden="true"><circle cx="6" cy="12" r="3.2"/><circle cx="18" cy="5.5" r="2.6"/><circle cx="18" cy="18.5" r="2.6"/><path d="M8.9 10.6 15.6 6.8M8.9 13.4l6.7 3.8"/></svg>`
const icon = `data:image/svg+xml,${encodeURIComponent(mark.replace('<svg', '<svg xmlns="http://www.w3.org/2000/svg" color="#0a5ec0"').replace(' aria-hidden="true"', ''))}`

function copyButton(target: string, what: string): Markup {
  return html`<button type="button" data-copy="${target}" hidden><span>Copy</span><span class="quiet"> ${what}</span></button>`
}

function snippet(id: string, { label, text }: Snippet, of: string): Markup {
  return html`<div class="snippet"><span class="label">${label}</span>
<div class="box"><pre><code id="${id}">${text}</code></pre>${copyButton(id, `${label} (${of})`)}</div></div>
`
}

function clientBlock(client: Client, isOpen: boolean): Markup {
  const { id, name, kind, steps, snippets, install, note } = client
  const list =
    steps.length === 1
      ? html`<p>${steps[0] as string}</p>`
      : html`<ol>${steps.map(step => html`<li>${step}</li>`)}</ol>`
  return html`<details name="client" id="${id}"${isOpen ? new Markup(' open') : ''}>
<summary><h3>${name}</h3><span>${kind}</span></summary>
<div class="how">
${note === undefined ? '' : html`<p class="note">${note}</p>`}
${list}
${install === undefined ? '' : html`<a class="install" href="${install.href}">${install.label}</a>`}
${snippets.map((each, at) => snippet(`${id}-${at}`, each, name))}</div>
</details>
`
}

const CHECKS: readonly (readonly [id: string, name: string])[] = [
  ['address', 'This is the configured address'],
  ['challenge', 'A call without a token is told where to sign in'],
  ['metadata', 'The address describes itself'],
  ['server', 'The sign-in service describes itself']
]

function selfTest(config: Config): Markup {
  const { resource, resourceMetadataUrl } = config.derived
  const due =
    config.oauth.anonymous === 'off'
      ? html`401 with a <code>WWW-Authenticate</code> header`
      : html`with JSON`
  return html`<section id="self-test" aria-labelledby="test-title" data-resource="${resource}" data-metadata="${resourceMetadataUrl}" data-anonymous="${String(config.oauth.anonymous !== 'off')}" data-device="${String(config.oauth.deviceFlowEnabled)}">
<h2 id="test-title">Self-test</h2>
<p>What a client does before anybody signs in, done now by your browser.</p>
<div class="card pad">
<ol class="checks">
${CHECKS.map(
  ([
    id,
    name
  ]) => html`<li data-check="${id}"><div class="row"><span class="name">${name}</span><span class="state"></span></div><div class="found"></div></li>
`
)}</ol>
<button type="button" id="again" hidden>Test again</button>
<noscript><p>Scripts are off, so nothing was tested. By hand: this must answer ${due}.</p>
<div class="box"><pre><code>${curlCommand(resource)}</code></pre></div></noscript>
</div>
</section>
`
}

function terminal(resource: string, siteName: string): Markup {
  return html`<section aria-labelledby="terminal-title">
<h2 id="terminal-title">Without a browser</h2>
<p>Over SSH or in a container: the command shows a code, which you enter on any other device.</p>
<div class="card pad">
${snippet('login', { label: 'Sign in', text: loginCommand(resource) }, 'from a terminal')}
${snippet('bridge', { label: 'Then, in the client’s configuration', text: connectConfiguration({ resource, siteName }) }, 'after signing in')}</div>
</section>
`
}

function body(config: Config): Markup {
  const { resource } = config.derived
  const { siteName } = config
  const site = config.drupal.url
  const all = clients({
    resource,
    siteName,
    isPublic: reach(resource) === 'public',
    isLazy: config.oauth.anonymous !== 'off'
  })
  // The first that can get here.
  const first = all.find(({ note }) => note === undefined)
  const anonymous =
    config.oauth.anonymous === 'off'
      ? ''
      : html`<li>Some tools are public: they work before you sign in.</li>`
  return html`<a class="quiet skip" href="#connect">Skip to the set-up</a>
<header><div class="wrap">
<p class="brow">${new Markup(mark)}MCP server</p>
<h1>${siteName}</h1>
<p class="lead">This address lets AI assistants work with the site in your name. Give it to your assistant, sign in, and begin: it speaks the Model Context Protocol (MCP).</p>
<div class="address"><code id="address">${resource}</code>${copyButton('address', 'the address')}</div>
<p id="summary" role="status"></p>
</div></header>
<main class="wrap">
<div>
<section id="connect" aria-labelledby="connect-title" tabindex="-1">
<h2 id="connect-title">Connect your assistant</h2>
<p>Choose your program; everything is filled in.</p>
<div class="card">
${all.map(client => clientBlock(client, client === first))}</div>
</section>
${config.oauth.deviceFlowEnabled ? terminal(resource, siteName) : ''}</div>
<div>
${selfTest(config)}<section aria-labelledby="trip-title">
<h2 id="trip-title">What happens when you connect</h2>
<div class="card pad"><ol class="trip">
<li>Your assistant opens the sign-in page of <a href="${site}">${new URL(site).host}</a>.</li>
<li>You sign in there and allow what it asks for. Your password stays with the site.</li>
<li>It works in your name: it can do what your account may do, and no more.</li>
${anonymous}</ol></div>
</section>
</div>
</main>
<footer><div class="wrap">Served by drupal-mcp-gateway, the MCP endpoint of this Drupal site.</div></footer>
<p class="quiet" id="said" role="status"></p>
`
}

export interface Page {
  html: string
  /** The value of Content-Security-Policy. */
  policy: string
}

function hash(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`
}

/** The whole page and the policy that lets nothing in but it: no other script, style, frame, form or connection. Pure. */
export function page(config: Config): Page {
  const { siteName } = config
  const { issuers } = config.oauth
  const asked = [
    config.derived.resource,
    ...(issuers.length > 0 ? issuers : issuersOf(config.drupal.url))
  ]
  const origins = new Set(asked.map(url => new URL(url).origin))
  return {
    html: html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>${siteName}: MCP server</title>
<link rel="icon" href="${icon}">
<style>${new Markup(style)}</style>
</head>
<body>
${body(config)}<script>${new Markup(script)}</script>
</body>
</html>
`.text,
    policy: [
      "default-src 'none'",
      `script-src ${hash(script)}`,
      `style-src ${hash(style)}`,
      'img-src data:',
      `connect-src 'self' ${[...origins].join(' ')}`,
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
      "require-trusted-types-for 'script'",
      "trusted-types 'none'"
    ].join('; ')
  }
}
