import fc from 'fast-check'
import t from 'tap'
import { AnswerReader } from '../../src/drupal/answer-reader.ts'

interface Read {
  status: number
  headers: Record<string, string>
  body: string
  isWhole: boolean
  keepAliveMs: number
  error?: string
}

/** What the reader makes of these pieces, one answer; `closes`: the other side ends the connection. */
function read(pieces: readonly string[], { method = 'GET', closes = false } = {}): Read {
  const reader = new AnswerReader(4000)
  const found: Read = { status: 0, headers: {}, body: '', isWhole: false, keepAliveMs: 0 }
  reader.begin(
    {
      onHeaders: (status, headers) => Object.assign(found, { status, headers }),
      onData(bytes, from, to) {
        found.body += bytes.toString('latin1', from, to)
        return true
      },
      onComplete() {
        found.isWhole = true
      }
    },
    method
  )
  try {
    for (const piece of pieces) {
      if (!reader.read(Buffer.from(piece, 'latin1'))) found.error = 'paused unasked'
    }
    if (closes) reader.end()
  } catch (error) {
    found.error = (error as { code: string }).code
  }
  found.keepAliveMs = reader.keepAliveMs
  return found
}

const answer = (head: string, body = '') => `HTTP/1.1 ${head}\r\n\r\n${body}`

t.test('reads answers as RFC 9112 frames them, in whatever pieces they come', async t => {
  const cases: [string, string, Parameters<typeof read>[1], Partial<Read>][] = [
    ['a declared length', answer('200 OK\r\nContent-Length: 5', 'hello'), {}, { body: 'hello' }],
    ['no body', answer('200 OK\r\ncontent-length: 0'), {}, { body: '' }],
    [
      'chunks, extensions and trailers',
      answer(
        '200 OK\r\nTransfer-Encoding: Chunked',
        '3\r\nabc\r\n00A;x="y"\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n'
      ),
      {},
      { body: 'abc0123456789' }
    ],
    [
      'up to the end of the connection',
      answer('200 OK\r\nContent-Type: text/plain', 'to the end'),
      { closes: true },
      { body: 'to the end', headers: { 'content-type': 'text/plain' }, keepAliveMs: 0 }
    ],
    ['HEAD has no body', answer('200\r\ncontent-length: 9'), { method: 'HEAD' }, { body: '' }],
    ['neither has 204', answer('204 No Content'), {}, { status: 204 }],
    ['nor 304', answer('304 Not Modified\r\ncontent-length: 9'), {}, { status: 304 }],
    [
      'early hints are no answer',
      answer('100 Continue') +
        answer('103 Early Hints\r\nLink: </a>') +
        answer('201 Created\r\ncontent-length: 1', 'x'),
      {},
      { status: 201, body: 'x' }
    ],
    [
      'repeated headers are joined, what nobody reads is left out',
      answer(
        '401 No\r\nWWW-Authenticate: Basic\r\nX-Cache-Tags: 1\r\nConstructor: 1\r\nwww-authenticate:\tBearer \r\nContent-Length:0'
      ),
      {},
      { headers: { 'www-authenticate': 'Basic, Bearer', 'content-length': '0' } }
    ],
    [
      'bytes beyond ASCII',
      answer('200 Gr\xfc\xdfe\r\ncontent-length: 1', '\xff'),
      {},
      { body: '\xff' }
    ]
  ]
  for (const [name, text, options, expected] of cases) {
    const found = read([text], options)
    t.match(found, { isWhole: true, ...expected }, name)
    t.equal(found.error, undefined, name)
    if (expected.headers !== undefined) t.strictSame(found.headers, expected.headers, name)
    for (let cut = 1; cut < text.length; cut++) {
      const whole = read([text.slice(0, cut), text.slice(cut)], options)
      if (whole.error !== undefined || !whole.isWhole) t.fail(`${name}, cut at ${cut}`)
    }
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1 }), sizes => {
        const pieces: string[] = []
        for (let at = 0, turn = 0; at < text.length; turn++) {
          const size = sizes[turn % sizes.length] as number
          pieces.push(text.slice(at, at + size))
          at += size
        }
        return JSON.stringify(read(pieces, options)) === JSON.stringify(read([text], options))
      }),
      { numRuns: 50 }
    )
  }
})

t.test('a body that comes with the end of its head may be as large as it likes', async t => {
  const text = answer('200 OK\r\ncontent-length: 70000', 'x'.repeat(70_000))
  t.match(read([text.slice(0, 9), text.slice(9)]), { isWhole: true, error: undefined })
})

t.test('how long the connection may be kept', async t => {
  const cases: [string, number][] = [
    ['HTTP/1.1 204 No', 4000],
    ['HTTP/1.1 204 No\r\nConnection: close', 0],
    ['HTTP/1.1 204 No\r\nconnection: Upgrade, Close', 0],
    ['HTTP/1.0 204 No', 0],
    ['HTTP/1.0 204 No\r\nConnection: Keep-Alive', 4000],
    ['HTTP/1.0 204 No\r\nConnection: x', 0],
    ['HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked', 0],
    ['HTTP/1.1 204 No\r\nConnection: keep-alive\r\nKeep-Alive: timeout=3, max=100', 2000],
    ['HTTP/1.1 204 No\r\nKeep-Alive: timeout=1', 0],
    ['HTTP/1.1 204 No\r\nKeep-Alive: timeout=75', 4000],
    ['HTTP/1.1 204 No\r\nKeep-Alive: max=5', 4000]
  ]
  for (const [head, expected] of cases)
    t.equal(read([`${head}\r\n\r\n`]).keepAliveMs, expected, head)
})

t.test('refuses what two readers could understand differently', async t => {
  const refused: [string, string, string][] = [
    ['no HTTP', 'SSH-2.0-OpenSSH_9.2\r\n', 'HPE_INVALID_CONSTANT'],
    ['HTTP/2', 'HTTP/2 200 OK\r\n\r\n', 'HPE_INVALID_CONSTANT'],
    ['a status that is none', answer('20 OK'), 'HPE_INVALID_HEADER'],
    ['a status below 100', answer('099 OK'), 'HPE_INVALID_STATUS'],
    ['an upgrade that nobody asked for', answer('101 Switching'), 'HPE_INVALID_STATUS'],
    ['a bare line feed', 'HTTP/1.1 200 OK\ncontent-length: 1\r\n\r\nx', 'HPE_INVALID_HEADER'],
    ['a folded header', answer('200 OK\r\na: b\r\n c'), 'HPE_INVALID_HEADER'],
    ['a space before the colon', answer('200 OK\r\ncontent-length : 1', 'x'), 'HPE_INVALID_HEADER'],
    ['NUL in a value', answer('200 OK\r\na: b\0'), 'HPE_INVALID_HEADER'],
    [
      'two lengths',
      answer('200 OK\r\ncontent-length: 1\r\ncontent-length: 2'),
      'HPE_INVALID_CONTENT_LENGTH'
    ],
    ['a signed length', answer('200 OK\r\ncontent-length: +1'), 'HPE_INVALID_CONTENT_LENGTH'],
    [
      'a length and what only looks blank',
      answer('200 OK\r\ncontent-length: 1\xa0', 'x'),
      'HPE_INVALID_CONTENT_LENGTH'
    ],
    [
      'a coding that only looks like chunks',
      answer('200 OK\r\ntransfer-encoding: chunked\xa0', '0\r\n\r\n'),
      'HPE_INVALID_TRANSFER_ENCODING'
    ],
    [
      'a length and chunks',
      answer('200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked', '0\r\n\r\n'),
      'HPE_INVALID_TRANSFER_ENCODING'
    ],
    [
      'another coding',
      answer('200 OK\r\ntransfer-encoding: gzip, chunked'),
      'HPE_INVALID_TRANSFER_ENCODING'
    ],
    [
      'a chunk size that is none',
      answer('200 OK\r\ntransfer-encoding: chunked', '-1\r\n'),
      'HPE_INVALID_CHUNK_SIZE'
    ],
    [
      'a chunk line that ends early',
      answer('200 OK\r\ntransfer-encoding: chunked', '1\nx'),
      'HPE_INVALID_CHUNK_SIZE'
    ],
    [
      'a huge chunk size',
      answer('200 OK\r\ntransfer-encoding: chunked', 'fffffffffff\r\n'),
      'HPE_INVALID_CHUNK_SIZE'
    ],
    [
      'a chunk longer than it said',
      answer('200 OK\r\ntransfer-encoding: chunked', '1\r\nxy\r\n'),
      'HPE_STRICT'
    ],
    [
      'an endless chunk line',
      answer('200 OK\r\ntransfer-encoding: chunked', `1;${'x'.repeat(5000)}`),
      'HPE_INVALID_CHUNK_SIZE'
    ],
    [
      'endless trailers',
      answer('200 OK\r\ntransfer-encoding: chunked', `0\r\n${'a: b\r\n'.repeat(20_000)}`),
      'HPE_HEADER_OVERFLOW'
    ],
    ['an endless head', `HTTP/1.1 200 OK\r\n${'a: b\r\n'.repeat(20_000)}`, 'HPE_HEADER_OVERFLOW'],
    [
      'a head beyond the limit, in one piece',
      answer(`200 OK\r\na: ${'b'.repeat(70_000)}`),
      'HPE_HEADER_OVERFLOW'
    ],
    ['bytes after the answer', answer('200 OK\r\ncontent-length: 1', 'xy'), 'HPE_UNEXPECTED_BYTES']
  ]
  for (const [name, text, code] of refused) {
    t.equal(read([text]).error, code, name)
    t.equal(read([text.slice(0, 9), text.slice(9)]).error, code, `${name}, in two pieces`)
  }
  t.equal(
    read(['HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel'], { closes: true }).isWhole,
    false
  )
})

t.test(
  'takes nothing before it is asked, and never throws anything else, whatever comes',
  async t => {
    t.throws(() => new AnswerReader(4000).read(Buffer.from('HTTP')), {
      code: 'HPE_UNEXPECTED_BYTES'
    })
    t.equal(new AnswerReader(4000).end(), true)
    const words = [
      'HTTP/1.1 ',
      '200',
      ' OK',
      '\r\n',
      '\n',
      'content-length: ',
      '3',
      ':',
      'transfer-encoding: chunked',
      'abc',
      '0',
      '\0',
      ' ',
      'a: b'
    ]
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...words), { maxLength: 30 }), pieces => {
        const { error } = read(pieces, { closes: true })
        return error === undefined || error.startsWith('HPE_')
      })
    )
  }
)
