<?php

/**
 * @file
 * Roles, OAuth scopes and a client for MCP, from the file that RULES names. Called by setup.sh: drush php:script scopes.
 *
 * What a token may do is what the person may do AND what its scopes allow. So each scope points to a role that holds the
 * permissions of that scope; nobody has to be given that role.
 *
 * - Every scope needs "access mcp tool discovery", or a token that has only this scope cannot even list tools.
 * - jsonrpc_mcp installs its scopes without grants and without granularity: asking for them fails (invalid_scope), and with a
 *   grant but no granularity Drupal answers 500 to every request with such a token.
 * - jsonrpc_mcp's scope "profile" hides that of OpenID Connect: it is deleted.
 * - The device flow drops every scope whose name has other characters than a-z, 0-9 and _ without a word. Where you need it
 *   (drupal-mcp-gateway login --device), name scopes like content_read, in the tools' annotations too.
 * - User 1 and administrators (is_admin) are not bounded by scopes: let nobody connect an agent as one of them.
 */

use Drupal\consumers\Entity\Consumer;
use Drupal\simple_oauth\Entity\Oauth2Scope;
use Drupal\user\Entity\Role;

$rules = json_decode(file_get_contents(getenv('RULES')), TRUE, 16, JSON_THROW_ON_ERROR);
$grants = ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'];

$known = array_keys(\Drupal::service('user.permissions')->getPermissions());
$allow = function (string $id, array $permissions, string $label) use ($known): void {
  $role = Role::load($id) ?? Role::create(['id' => $id, 'label' => $label]);
  foreach ($permissions as $permission) {
    if (in_array($permission, $known, TRUE)) {
      $role->grantPermission($permission);
    }
    else {
      print "  This site has no permission \"$permission\": left out of role $id.\n";
    }
  }
  $role->save();
};

$allow($rules['everybody']['role'], $rules['everybody']['permissions'], 'Authenticated user');

$grant_types = [];
foreach (array_keys(\Drupal::service('plugin.manager.oauth2_grant.processor')->getDefinitions()) as $grant) {
  if (in_array($grant, $grants, TRUE)) {
    $grant_types[$grant] = ['status' => TRUE, 'description' => ''];
  }
}

foreach ($rules['scopes'] as $name => $rule) {
  $allow($rule['role'], $rule['permissions'], 'MCP scope ' . $name);
  $scope = Oauth2Scope::load(Oauth2Scope::scopeToMachineName($name)) ?? Oauth2Scope::create(['name' => $name]);
  $scope->set('description', $rule['description']);
  $scope->set('grant_types', $grant_types);
  $scope->set('umbrella', FALSE);
  $scope->set('granularity_id', 'role');
  $scope->set('granularity_configuration', ['role' => $rule['role']]);
  $scope->save();
  print "  scope $name: role {$rule['role']}\n";
}

$shadow = Oauth2Scope::load('profile');
if ($shadow && !isset($rules['scopes']['profile']) && !$shadow->get('granularity_id')) {
  $shadow->delete();
  print "  scope profile of jsonrpc_mcp deleted: it hid that of OpenID Connect\n";
}

// Saving a client ends all its tokens: only made where it is missing.
$client = $rules['client'];
if (!\Drupal::entityTypeManager()->getStorage('consumer')->loadByProperties(['client_id' => $client['client_id']])) {
  Consumer::create([
    'client_id' => $client['client_id'],
    'label' => $client['label'],
    'grant_types' => array_keys($grant_types),
    'redirect' => $client['redirect'],
    'confidential' => FALSE,
    'pkce' => TRUE,
    'third_party' => TRUE,
  ])->save();
  print "  client {$client['client_id']}\n";
}
