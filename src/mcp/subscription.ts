// What is written on a `subscriptions/listen` stream (modern era, R71)? Every message is tagged with the id of the request that
// opened it, as that id was sent.
import { gatewayError } from '../errors.ts'
import { isObject } from './call.ts'
import { metaKey } from './envelope.ts'
import { rpcResult } from './rpc-error.ts'

const flags = ['toolsListChanged', 'promptsListChanged', 'resourcesListChanged'] as const

/** The kinds of change that the gateway can tell of. */
export type Offered = Partial<Record<(typeof flags)[number], boolean>>

/**
 * The part of a request's `params.notifications` that will be honoured: what was asked for and is offered. Throws GW_INVALID_PARAMS where
 * nothing was asked for that can be understood: such a stream would stay silent for ever.
 */
export function honoured(requested: unknown, offered: Offered): Offered {
  if (!isObject(requested) || flags.some(flag => !isFlag(requested[flag]))) {
    throw gatewayError('GW_INVALID_PARAMS', {
      hint: '"notifications" must be a subscription filter.'
    })
  }
  return Object.fromEntries(
    flags
      .filter(flag => requested[flag] === true && offered[flag] === true)
      .map(flag => [flag, true])
  )
}

const isFlag = (value: unknown) => value === undefined || typeof value === 'boolean'

/** The first message: what will be told. */
export function acknowledged(idText: string, filter: Offered): string {
  return tagged(
    idText,
    'notifications/subscriptions/acknowledged',
    `,"notifications":${JSON.stringify(filter)}`
  )
}

/** A change, for example `notifications/tools/list_changed`. */
export function changed(idText: string, method: string): string {
  return tagged(idText, method, '')
}

/** The last message of a stream that ends in order: clients subscribe again. */
export function ended(idText: string): string {
  return rpcResult(idText, `{"resultType":"complete","_meta":${tag(idText)}}`)
}

function tagged(idText: string, method: string, params: string): string {
  return `{"jsonrpc":"2.0","method":${JSON.stringify(method)},"params":{"_meta":${tag(idText)}${params}}}`
}

function tag(idText: string): string {
  return `{"${metaKey.subscriptionId}":${idText}}`
}
