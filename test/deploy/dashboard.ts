// What would somebody see on the dashboard? Its panels, where dashboard.json puts them, with what Prometheus answered: a sketch for
// CI's artefacts, not Grafana's own drawing. It refuses to know Prometheus.
import { html, Markup } from '../../src/http/landing/markup.ts'
import type { Sample } from './prometheus.ts'

interface Panel {
  type: string
  title: string
  gridPos: { h: number; w: number; x: number; y: number }
  targets?: { expr: string; legendFormat: string }[]
  fieldConfig?: { defaults?: { unit?: string } }
}

export interface Dashboard {
  panels: Panel[]
  templating: { list: { name: string; definition?: string }[] }
}

interface Line {
  name: string
  points: [seconds: number, value: number][]
}

const colours =
  '#2563c9 #d9480f #2b8a3e #9c36b5 #c2255c #0b7285 #8a6d00 #495057 #5f3dc4 #e8590c'.split(' ')
const width = 400
const height = 110

/** A value in the unit of its panel, short. */
function written(value: number, unit = 'short'): string {
  if (!Number.isFinite(value)) return '–'
  const scaled = (step: number, names: readonly string[]) => {
    let at = 0
    while (value >= step && at < names.length - 1) {
      value /= step
      at++
    }
    return `${Number(value.toPrecision(3))} ${names[at]}`
  }
  switch (unit) {
    case 's':
      return value < 1
        ? `${Number((value * 1000).toPrecision(3))} ms`
        : `${Number(value.toPrecision(3))} s`
    case 'percentunit':
      return `${Number((value * 100).toPrecision(3))} %`
    case 'bytes':
      return scaled(1024, ['B', 'KiB', 'MiB', 'GiB'])
    case 'Bps':
      return scaled(1000, ['B/s', 'kB/s', 'MB/s'])
    case 'reqps':
      return `${Number(value.toPrecision(3))}/s`
    default:
      return String(Number(value.toPrecision(3)))
  }
}

function linesOf({ targets = [] }: Panel, answers: ReadonlyMap<string, Sample[]>): Line[] {
  return targets.flatMap(({ expr, legendFormat }) =>
    (answers.get(expr) ?? []).map(({ metric, values = [] }) => ({
      name: legendFormat.replace(/\{\{(\w+)\}\}/g, (_, label: string) => metric[label] ?? ''),
      points: values
        .map(([at, value]) => [at, Number(value)] as [number, number])
        .filter(([, value]) => Number.isFinite(value))
    }))
  )
}

function chart(lines: readonly Line[], unit: string | undefined, { start, end }: Span): Markup {
  const most = Math.max(...lines.flatMap(({ points }) => points.map(([, value]) => value)), 0) || 1
  const place = ([at, value]: [number, number]) =>
    `${(((at - start) / (end - start)) * width).toFixed(1)},${(height - (value / most) * (height - 8)).toFixed(1)}`
  const drawn = lines.map(
    ({ points }, at) =>
      html`<polyline fill="none" stroke="${colours[at % colours.length] as string}" stroke-width="1.6" points="${points.map(place).join(' ')}"/>`
  )
  const named = lines.map(
    ({ name, points }, at) =>
      html`<li><i style="background:${colours[at % colours.length] as string}"></i>${name} <b>${written(points.at(-1)?.[1] ?? Number.NaN, unit)}</b></li>`
  )
  return html`<svg viewBox="0 0 ${String(width)} ${String(height)}" preserveAspectRatio="none"><path d="M0 ${String(height - 0.5)}H${String(width)}M0 8H${String(width)}" stroke="#dde2e8" stroke-width="1"/>${drawn}</svg><p class="top">${written(most, unit)}</p><ul>${named}</ul>`
}

export interface Span {
  /** Seconds since epoch. */
  start: number
  end: number
}

const style = `body{font:13px/1.35 system-ui,sans-serif;background:#f1f3f6;color:#1f2933;margin:16px}
main{display:grid;grid-template-columns:repeat(24,1fr);gap:8px}.row{grid-column:1/-1;font-size:15px;font-weight:600;margin:8px 2px 0}
.panel{background:#fff;border:1px solid #dde2e8;border-radius:6px;padding:8px 12px;position:relative;min-width:0}
h3{margin:0 0 4px;font-size:13px}.stat{font-size:34px;font-weight:600;color:#2b8a3e;text-align:center;margin:18px 0 22px}
svg{width:100%;height:110px;display:block}.top{position:absolute;top:10px;right:12px;margin:0;color:#7b8794;font-size:11px}
ul{list-style:none;margin:6px 0 0;padding:0;display:flex;flex-wrap:wrap;gap:2px 12px;font-size:11px;color:#52606d}
li{white-space:nowrap}i{display:inline-block;width:9px;height:3px;margin-right:4px;vertical-align:middle}b{color:#1f2933}`

/** The dashboard as a page; `answers` are Prometheus's, by the expression as it stands in dashboard.json. Pure. */
export function drawDashboard(
  { panels }: Dashboard,
  answers: ReadonlyMap<string, Sample[]>,
  span: Span
): string {
  const drawn = panels.map(panel => {
    const { type, title, gridPos, fieldConfig } = panel
    if (type === 'row') return html`<div class="row">${title}</div>`
    const unit = fieldConfig?.defaults?.unit
    const lines = linesOf(panel, answers)
    const inside =
      type === 'stat'
        ? html`<p class="stat">${written(lines[0]?.points.at(-1)?.[1] ?? Number.NaN, unit)}</p>`
        : chart(lines, unit, span)
    return html`<div class="panel" style="grid-column:span ${String(gridPos.w)}"><h3>${title}</h3>${inside}</div>`
  })
  return html`<!doctype html><meta charset="utf-8"><style>${new Markup(style)}</style><main>${drawn}</main>`
    .text
}
