// The editorial site's content: a handful of tutorials and what can be done with them. It knows neither tools nor permissions.

export interface Tutorial {
  id: number
  title: string
  summary: string
  body: string
  tags: string[]
  status: 'published' | 'draft'
  author: string
}

const MAX_TUTORIALS = 1000

/** A fresh collection: five published tutorials and one draft. */
export function tutorialCollection() {
  const tutorials = firstTutorials()
  return {
    /** Those whose title, summary, body or tags contain the words; drafts only when asked for. */
    search(query: string, tag: string | undefined, withDrafts: boolean): Tutorial[] {
      const words = query.toLowerCase().split(/\s+/).filter(Boolean)
      return tutorials.filter(tutorial => {
        const { title, summary, body, tags, status } = tutorial
        const text = [title, summary, body, ...tags].join(' ').toLowerCase()
        return (
          (withDrafts || status === 'published') &&
          (tag === undefined || tags.includes(tag)) &&
          words.every(word => text.includes(word))
        )
      })
    },
    /** Throws when there is none with this id, or only a draft that may not be seen. */
    read(id: number, withDrafts: boolean): Tutorial {
      const tutorial = tutorials.find(candidate => candidate.id === id)
      const isVisible = tutorial && (withDrafts || tutorial.status === 'published')
      if (!isVisible)
        throw new Error(`There is no tutorial ${id}. Use tutorials.search to find ids.`)
      return tutorial
    },
    /** Adds a draft. */
    create(given: Pick<Tutorial, 'title' | 'summary' | 'body' | 'tags' | 'author'>): Tutorial {
      if (!given.title.trim()) throw new Error('A tutorial needs a title.')
      if (tutorials.length >= MAX_TUTORIALS) throw new Error('The site is full.')
      const tutorial: Tutorial = { id: tutorials.at(-1)!.id + 1, ...given, status: 'draft' }
      tutorials.push(tutorial)
      return tutorial
    },
    /** Makes a draft public. Throws when it is already. */
    publish(id: number): Tutorial {
      const tutorial = this.read(id, true)
      if (tutorial.status === 'published') throw new Error(`Tutorial ${id} is already published.`)
      tutorial.status = 'published'
      return tutorial
    },
    count: () => tutorials.filter(tutorial => tutorial.status === 'published').length
  }
}

function firstTutorials(): Tutorial[] {
  const tutorials: Omit<Tutorial, 'id' | 'author'>[] = [
    {
      title: 'Your first content type',
      summary: 'Model an event with fields instead of one big text area.',
      body: 'Open Structure → Content types → Add content type and name it Event. Add a Date range field for when it happens, an Address or plain text field for where, and a Media reference for its picture. Required fields keep listings complete; a field with one meaning can be filtered and sorted later, prose cannot. Finish on Manage display: the teaser needs title, date and picture, nothing else.',
      tags: ['site-building', 'beginner'],
      status: 'published'
    },
    {
      title: 'Configuration between environments',
      summary: 'Export on your machine, import on the server, never click twice.',
      body: 'Set $settings["config_sync_directory"] outside the web root. Run drush config:export after every change, commit the YAML, and on the server run drush deploy, which updates the database, imports the configuration and rebuilds caches in the right order. Values that differ per environment belong in settings.php overrides, secrets in the environment.',
      tags: ['devops', 'drush'],
      status: 'published'
    },
    {
      title: 'Caching that stays correct',
      summary: 'Tags, contexts and max-age, and how to see which one you forgot.',
      body: 'A render array says what it depends on: cache tags for data (node:12), contexts for the request (user.permissions, url.query_args), max-age for time. Leave a context out and the first visitor’s page is shown to everybody. Turn on http.response.debug_cacheability_headers in a development services file and read X-Drupal-Cache-Tags and X-Drupal-Cache-Contexts.',
      tags: ['performance', 'caching'],
      status: 'published'
    },
    {
      title: 'Accessible forms in an afternoon',
      summary: 'Labels, descriptions, errors and focus, tested with the keyboard alone.',
      body: 'Every element gets a #title; hide it with #title_display = invisible rather than leaving it out. Say the rule in #description before the person breaks it. Switch on Inline Form Errors so that a message stands beside its field and is read with it. Then put the mouse away: tab through the form, submit it wrong, and see whether you can find the mistake.',
      tags: ['accessibility', 'forms'],
      status: 'published'
    },
    {
      title: 'Let assistants use your site: OAuth scopes for MCP tools',
      summary: 'Give a tool the narrowest scope, and a scope the narrowest role.',
      body: 'Create two roles, one that may read and one that may write, and two scopes of the same shape, for instance read:tutorials and write:tutorials, with the grants authorization_code and refresh_token switched on. Name the scope in the tool’s annotations. A person’s own permissions still cap the token: a scope never gives anybody more than they already have. Keep access tokens at five minutes.',
      tags: ['security', 'mcp', 'oauth'],
      status: 'published'
    },
    {
      title: 'Migrating from a spreadsheet',
      summary: 'A CSV source, three processes and a rollback.',
      body: 'Put the file in a private folder, describe it with the CSV source plugin, map the columns, and use migration_lookup for references between rows. Run drush migrate:import with --limit=10 first; drush migrate:rollback undoes it. Unfinished: the section on images.',
      tags: ['migration', 'drush'],
      status: 'draft'
    }
  ]
  return tutorials.map((tutorial, index) => ({ id: index + 1, ...tutorial, author: 'editor' }))
}
