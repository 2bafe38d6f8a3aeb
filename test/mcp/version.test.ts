import t from 'tap'
import {
  isModernVersion,
  isSupportedLegacy,
  isSupportedModern,
  legacyVersion,
  LEGACY_VERSIONS,
  MODERN_VERSIONS,
  negotiate,
  supportedVersionsHint
} from '../../src/mcp/version.ts'

t.test(
  'R32 answers the requested version where it is spoken, else the latest with sessions',
  async t => {
    for (const version of LEGACY_VERSIONS) t.equal(negotiate(version), version)
    for (const version of ['2024-11-05', '2026-07-28', '2099-01-01', '', undefined, null, 5, {}])
      t.equal(negotiate(version), '2025-11-25', JSON.stringify(version))
  }
)

t.test('R33 R34 R35 R36 the version header of a legacy request', async t => {
  t.equal(legacyVersion(undefined, undefined), '2025-03-26', 'R34 nothing known')
  t.equal(legacyVersion(undefined, '2025-06-18'), '2025-06-18', 'R34 the session knows')
  t.equal(legacyVersion('2025-06-18', undefined), '2025-06-18')
  t.equal(legacyVersion('2025-11-25', '2025-06-18'), '2025-06-18', 'R36 accepted, changes nothing')
  for (const header of ['2024-11-05', '', 'banana', '2025-06-18, 2025-06-18', '2026-07-28'])
    t.equal(legacyVersion(header, '2025-06-18'), undefined, `R35 ${header}`)
})

t.test('the era of a version is a comparison of dates', async t => {
  for (const version of ['2026-07-28', '2027-01-01', '2099-12-31']) t.ok(isModernVersion(version))
  for (const version of ['2026-07-27', '2025-11-25', 'banana', '9', '', undefined, 20260728])
    t.notOk(isModernVersion(version), String(version))
  t.ok(isSupportedModern('2026-07-28'))
  t.notOk(isSupportedModern('2099-01-01'))
  t.ok(isSupportedLegacy('2025-03-26'))
  t.notOk(isSupportedLegacy('2024-11-05'))
  for (const version of [...LEGACY_VERSIONS, ...MODERN_VERSIONS])
    t.match(supportedVersionsHint(), version)
})
