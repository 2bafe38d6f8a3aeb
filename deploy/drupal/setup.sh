#!/usr/bin/env bash
# Makes a Drupal site ready to stand behind drupal-mcp-gateway: modules, keys, scopes with their roles, a client, routes.
#
#   cd /path/to/the/site && /path/to/deploy/drupal/setup.sh
#
# Run it again whenever a module was added: every step finds out what is there. It writes into composer.json and into active
# configuration; export that afterwards (drush config:export), or the next import undoes it. settings.php is yours: see
# settings.example.php beside this file.
#
# Variables: DRUSH (vendor/bin/drush), KEYS (../keys, from the web root: outside of it), RULES (scopes.json beside this file).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
drush=${DRUSH:-vendor/bin/drush}
keys=${KEYS:-../keys}
export RULES=${RULES:-$here/scopes.json}

step() { printf '\n== %s\n' "$*"; }

step 'Modules'
# jsonrpc_mcp is not on packages.drupal.org. The others are.
composer config repositories.jsonrpc_mcp vcs https://github.com/e0ipso/jsonrpc_mcp
composer require --no-interaction 'drupal/simple_oauth:^6.1' 'drupal/jsonrpc:^3.0@beta' 'drupal/jsonrpc_mcp:^1.5.4' e0ipso/simple_oauth_21
"$drush" pm:install -y simple_oauth simple_oauth_21 simple_oauth_server_metadata simple_oauth_client_registration \
  simple_oauth_pkce simple_oauth_native_apps simple_oauth_device_flow jsonrpc jsonrpc_mcp
"$drush" updatedb -y

step 'Keys that sign tokens'
# Only where there are none: new keys end every token.
if [ -z "$("$drush" config:get simple_oauth.settings public_key --format=string 2>/dev/null || true)" ]; then
  "$drush" simple-oauth:generate-keys "$keys"
  "$drush" config:set -y simple_oauth.settings public_key "$keys/public.key"
  "$drush" config:set -y simple_oauth.settings private_key "$keys/private.key"
fi

step 'Settings that keep clients out when they are left as installed'
# Frozen at installation, with drush even as http://default/oauth/register. Empty: it follows the site's own URL.
"$drush" config:set -y simple_oauth_server_metadata.settings registration_endpoint ''
# "block" takes Claude, Cursor and VS Code for embedded browsers (Electron) and refuses them a token.
"$drush" config:set -y simple_oauth_native_apps.settings webview.detection warn
# OAuth 2.1 knows S256 only.
"$drush" config:set -y simple_oauth_pkce.settings plain_enabled 0

step 'Roles, scopes and a client'
"$drush" php:script scopes --script-path="$here"

step 'Routes of the tools'
"$drush" cache:rebuild
# jsonrpc_mcp makes routes only for tools that whoever rebuilds may run. drush is nobody, so privileged tools would be listed and
# then answer 404: rebuild once more as the administrator.
"$drush" php:eval '\Drupal::service("account_switcher")->switchTo(\Drupal\user\Entity\User::load(1)); \Drupal::service("router.builder")->rebuild();'

step 'Done'
cat <<'END'
Export it: drush config:export. Then check the whole chain from outside:
  npx drupal-mcp-gateway doctor https://mcp.example.org/mcp
END
