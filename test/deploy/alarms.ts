// When must which alarm of deploy/prometheus/alerts.yaml ring? Series of twenty minutes as promtool writes them, for Prometheus itself to
// judge. It refuses to know the rules.

/** One sample each 30 seconds for 20 minutes; every series is of one process that is well but for what is said. */
export const calm = {
  up: '1x40',
  process_start_time_seconds: '1000x40',
  'mcp_gateway_requests_total{outcome="ok",status="200"}': '0+3000x40',
  'mcp_gateway_requests_total{outcome="GW_UPSTREAM_UNAVAILABLE",status="502"}': '0+30x40',
  'mcp_gateway_requests_total{outcome="GW_INVALID_TOKEN",status="401"}': '0+15x40',
  mcp_gateway_uncaught_errors_total: '1x40',
  mcp_gateway_buffers_given_up_total: '3x40',
  'mcp_gateway_authorization_server_failures_total{kind="keys"}': '7x40',
  'mcp_gateway_key_refreshes_total{outcome="ok"}': '0+1x40',
  'mcp_gateway_key_refreshes_total{outcome="failed"}': '2x40',
  'mcp_gateway_breaker_state{state="closed"}': '1x30 0 0 1x8',
  'mcp_gateway_queue_duration_seconds_bucket{le="1"}': '0+100x40',
  'mcp_gateway_queue_duration_seconds_bucket{le="2.5"}': '0+101x40',
  'mcp_gateway_queue_duration_seconds_bucket{le="+Inf"}': '0+101x40',
  'mcp_gateway_drupal_duration_seconds_bucket{le="5"}': '0+100x40',
  'mcp_gateway_drupal_duration_seconds_bucket{le="+Inf"}': '0+101x40',
  mcp_gateway_store_healthy: '1x40',
  'mcp_gateway_store_failures_total{kind="get"}': '5x40',
  // Seconds since epoch, as time() is: promtool's clock begins at 0.
  mcp_gateway_tls_certificate_expiry_timestamp_seconds: `${15 * 86_400}x40`,
  nodejs_eventloop_lag_p99_seconds: '0.02x40',
  'mcp_gateway_tool_unreachable_total{tool="old"}': '4x40'
}
/** What is otherwise, and nothing must ring all the same. */
export const quiet: Record<string, string>[] = [
  // A new configuration, and another to mend it.
  { process_start_time_seconds: '1000x10 1300x15 1750x15' },
  // Redis was restarted.
  {
    mcp_gateway_store_healthy: '1x27 0 1x12',
    'mcp_gateway_store_failures_total{kind="get"}': '5x27 90x12'
  },
  // Drupal is back, and nobody has called since: the breaker is closed by the next call only.
  {
    'mcp_gateway_breaker_state{state="closed"}': '1x20 0x20',
    'mcp_gateway_requests_total{outcome="GW_UPSTREAM_UNAVAILABLE",status="502"}': '0+30x24 720x16'
  }
]
/** What is otherwise when an alarm must ring, and which. */
export const rings: [alert: string, series: Record<string, string>][] = [
  ['McpGatewayDown', { up: '1x30 0x10' }],
  ['McpGatewayDown', { up: '1x30 stale' }],
  // Never away for two minutes.
  [
    'McpGatewayRestarting',
    {
      up: '1x10 0 0 1x10 0 0 1x10 0 0 1x10',
      process_start_time_seconds: '1000x10 stale _ 1360x10 stale _ 1720x10 stale _ 2080x10'
    }
  ],
  [
    'McpGatewayServerErrors',
    { 'mcp_gateway_requests_total{outcome="GW_UPSTREAM_UNAVAILABLE",status="502"}': '0+200x40' }
  ],
  ['McpGatewayUncaughtErrors', { mcp_gateway_uncaught_errors_total: '0x38 1 1' }],
  [
    'McpGatewayAuthorizationServerDown',
    { 'mcp_gateway_authorization_server_failures_total{kind="keys"}': '0+1x40' }
  ],
  [
    'McpGatewayAuthorizationServerDown',
    {
      'mcp_gateway_requests_total{outcome="GW_AUTHORIZATION_SERVER_UNAVAILABLE",status="503"}':
        '0+1x40'
    }
  ],
  [
    'McpGatewayKeyRefreshFailing',
    {
      'mcp_gateway_key_refreshes_total{outcome="failed"}': '0+1x40',
      'mcp_gateway_key_refreshes_total{outcome="ok"}': '3x40'
    }
  ],
  [
    'McpGatewayUnauthorizedBurst',
    { 'mcp_gateway_requests_total{outcome="GW_INVALID_TOKEN",status="401"}': '0+60x40' }
  ],
  ['McpGatewayBreakerOpen', { 'mcp_gateway_breaker_state{state="closed"}': '1x30 0x10' }],
  [
    'McpGatewayBreakerOpen',
    {
      'mcp_gateway_breaker_state{state="closed"}': '1x30 0x10',
      'mcp_gateway_requests_total{outcome="GW_UPSTREAM_UNAVAILABLE",status="502"}': '5x40',
      'mcp_gateway_requests_total{outcome="GW_UPSTREAM_TIMEOUT",status="504"}': '_x32 0+1x7'
    }
  ],
  ['McpGatewayQueueSaturated', { 'mcp_gateway_queue_duration_seconds_bucket{le="1"}': '0+50x40' }],
  [
    'McpGatewayQueueSaturated',
    { 'mcp_gateway_requests_total{outcome="GW_OVERLOADED",status="503"}': '0+1x40' }
  ],
  [
    'McpGatewayDrupalSlow',
    {
      'mcp_gateway_drupal_duration_seconds_bucket{le="5"}': '0+50x40',
      'mcp_gateway_drupal_duration_seconds_bucket{le="10"}': '0+101x40'
    }
  ],
  ['McpGatewayRedisDown', { mcp_gateway_store_healthy: '1x30 0x10' }],
  ['McpGatewayRedisDown', { 'mcp_gateway_store_failures_total{kind="get"}': '0+1x40' }],
  [
    'McpGatewayCertificateExpiring',
    { mcp_gateway_tls_certificate_expiry_timestamp_seconds: `${14 * 86_400}x40` }
  ],
  [
    'McpGatewayCertificateExpiring',
    { mcp_gateway_tls_certificate_expiry_timestamp_seconds: '60x40' }
  ],
  ['McpGatewayBuffersFull', { mcp_gateway_buffers_given_up_total: '0x38 1 1' }],
  ['McpGatewayEventLoopDelay', { nodejs_eventloop_lag_p99_seconds: '0.3x40' }],
  ['McpGatewayToolUnreachable', { 'mcp_gateway_tool_unreachable_total{tool="old"}': '4x37 5 5 5' }],
  ['McpGatewayToolUnreachable', { 'mcp_gateway_tool_unreachable_total{tool="new"}': '_x37 1 1 1' }]
]
