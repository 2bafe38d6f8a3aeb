// `completion`: scripts that complete commands and options in bash, zsh and fish. What there is to complete stands in
// the table of commands.
import { commands } from './commands.ts'
import { exitCodes, Failure } from './failure.ts'
import type { World } from './terminal.ts'

const name = 'drupal-mcp-gateway'
const shells = ['bash', 'zsh', 'fish']

const help = `Usage: drupal-mcp-gateway completion bash|zsh|fish

Prints a script that completes commands and options in your shell.

Options:
  --help  this text

Examples:
  source <(drupal-mcp-gateway completion bash)
  drupal-mcp-gateway completion zsh > "\${fpath[1]}/_drupal-mcp-gateway"
  drupal-mcp-gateway completion fish > ~/.config/fish/completions/drupal-mcp-gateway.fish

Exit codes: 0 done, 2 wrong use.
`

/** Prints the script; answers the exit code. */
export async function run(args: string[], { stdout }: World = process): Promise<number> {
  const [shell = ''] = args
  if (shell === '--help' || shell === '-h') {
    stdout.write(help)
    return 0
  }
  if (args.length !== 1 || !shells.includes(shell)) {
    throw new Failure(`Which shell? One of ${shells.join(', ')}.`, exitCodes.usage)
  }
  const table = optionTable()
  stdout.write(shell === 'bash' ? bash(table) : shell === 'zsh' ? zsh(table) : fish(table))
  return 0
}

interface Entry {
  command: string
  summary: string
  options: readonly string[]
}

function optionTable(): Entry[] {
  return Object.entries(commands).map(([command, { summary, options = [] }]) => {
    return { command, summary, options: [...options, '--help'] }
  })
}

function bash(table: Entry[]): string {
  const cases = table.map(
    ({ command, options }) => `    ${command}) words="${options.join(' ')}" ;;`
  )
  return `_drupal_mcp_gateway() {
  local words="${table.map(({ command }) => command).join(' ')} --help --version"
  case "\${COMP_CWORD}:\${COMP_WORDS[1]}" in 1:*) ;; *) case "\${COMP_WORDS[1]}" in
${cases.join('\n')}
    *) words="" ;;
  esac ;; esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _drupal_mcp_gateway ${name}
`
}

function zsh(table: Entry[]): string {
  const list = table.map(
    ({ command, summary }) => `    '${command}:${summary.replaceAll("'", '')}'`
  )
  const cases = table.map(
    ({ command, options }) => `    ${command}) compadd -- ${options.join(' ')} ;;`
  )
  return `#compdef ${name}
if (( CURRENT == 2 )); then
  local -a list=(
${list.join('\n')}
  )
  _describe command list
else
  case "$words[2]" in
${cases.join('\n')}
  esac
  _files
fi
`
}

function fish(table: Entry[]): string {
  const lines = table.flatMap(({ command, summary, options }) => [
    `complete -c ${name} -n __fish_use_subcommand -a ${command} -d '${summary.replaceAll("'", '')}'`,
    ...options.map(option => {
      const what = option.startsWith('--') ? `-l ${option.slice(2)}` : `-a ${option}`
      return `complete -c ${name} -n '__fish_seen_subcommand_from ${command}' ${what}`
    })
  ])
  return `${lines.join('\n')}\n`
}
