<?php

/**
 * @file
 * What settings.php needs on a site behind drupal-mcp-gateway.
 */

// Every URL that Drupal publishes, its issuer among them, follows the Host of the request: list what it may be. The gateway sends
// the host of DRUPAL_URL, whatever DRUPAL_INTERNAL_URL it connects to.
$settings['trusted_host_patterns'] = ['^www\.example\.org$'];

// Where a proxy ends TLS in front of Drupal: its addresses, and only the headers that it sets. Without this the endpoints in the
// metadata begin with http. Never list the gateway here: it sends no X-Forwarded-*.
$settings['reverse_proxy'] = TRUE;
$settings['reverse_proxy_addresses'] = ['10.0.0.5'];
$settings['reverse_proxy_trusted_headers'] = \Symfony\Component\HttpFoundation\Request::HEADER_X_FORWARDED_FOR
  | \Symfony\Component\HttpFoundation\Request::HEADER_X_FORWARDED_PROTO;
