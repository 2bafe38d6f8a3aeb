// What the image's HEALTHCHECK runs, a program of its own: does the public listener that file and environment configure answer?
import { readFileSync } from 'node:fs'
import * as http from 'node:http'
import * as https from 'node:https'
import { overlayEnvironment } from '../config/environment.ts'
import { readFileTree } from '../config/file.ts'
import { validate } from '../config/validate.ts'

// Not loadConfig: `demo` runs without the options that it would ask for.
const read = (path: string) => readFileSync(path, 'utf8')
const file = process.env['GATEWAY_CONFIG']
const tree = file ? readFileTree(file, read).tree : {}
overlayEnvironment(tree, process.env, read)
const { host, port, tlsCertFile } = validate(tree).tree.server

// Linux takes 0.0.0.0 and :: for this machine. Whose certificate it is is not asked.
const options = { host, port, path: '/livez', rejectUnauthorized: false }
const end = (code: number) => process.exit(code)
;(tlsCertFile === '' ? http : https)
  .get(options, ({ statusCode }) => end(statusCode === 200 ? 0 : 1))
  .on('error', () => end(1))
