// Checks dashboards/*.json: types by @grafana/schema, each panel's options by its own plugin's, and the conventions that no
// type tells. Then breaks copies of them, each in one way, and wants every one of them to be found.

import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { canonical } from './canonical.js';

const here = fileURLToPath(new URL('.', import.meta.url));
const folder = join(here, '../../dashboards');
const scratch = join(here, 'node_modules/.dashboards');

// The schemas, where each keeps the types of a panel, and of Grafana 10.4 the version of its dashboards.
const schemas = [
  { name: 'grafana-schema-10', index: 'dist/index.d.ts', panel: (kind, file) => `dist/esm/raw/composable/${kind}/panelcfg/x/${file}PanelCfg_types.gen` },
  // What the new one wants beside that, it has defaults for.
  { name: 'grafana-schema-13', index: 'dist/types/index.d.ts', panel: (kind) => `dist/types/raw/composable/${kind}/panelcfg/x/types.gen`, lenient: true },
];
const schemaVersion = 39;
// The panels that we use, and which of them have fields of their own.
const panels = { bargauge: 'BarGauge', heatmap: 'Heatmap', stat: 'Stat', 'state-timeline': 'StateTimeline', table: 'Table', timeseries: 'TimeSeries' };
const plain_fields = ['bargauge', 'stat'];

// JSON has no enums: where the schema wants one, its values will do.
const prelude = (schema) => `
import type { AnnotationQuery, Dashboard, Panel, RowPanel, VariableModel } from '@grafana/schema';
import type { PrometheusDataQuery } from 'grafana-schema-10/dist/esm/raw/composable/prometheus/dataquery/x/PrometheusDataQuery_types.gen';
${Object.entries(panels).map(([type, file]) => `import type * as ${file} from '${schema.name}/${schema.panel(type.replace('-', ''), file)}';`).join('\n')}
type Json<T> = T extends string ? \`\${T}\`
  : T extends number ? (\`\${T}\` extends \`\${infer N extends number}\` ? N : T)
  : T extends boolean | null | undefined ? T
  : unknown extends T ? T
  : T extends Array<infer U> ? Array<Json<U>>
  : { [K in keyof T]: Json<T[K]> };
// What Prometheus's data source reads beside the schema's own.
type Note = Json<Omit<AnnotationQuery<PrometheusDataQuery>, 'datasource'>> & { datasource: { type: string; uid: string }; titleFormat?: string; textFormat?: string; tagKeys?: string };
type Variable = Json<VariableModel> & { name: string; label: string; description: string };
type Board = Json<Omit<Dashboard, 'panels' | 'annotations' | 'templating'>> & { uid: string; title: string; description: string };
`;

function source(board, schema) {
  const { panels: all = [], annotations, templating, ...rest } = board;
  const lines = [prelude(schema)];
  const say = (name, type, value) => lines.push(`export const ${name}: ${type} = ${JSON.stringify(value)};`);
  say('board', 'Board', rest);
  (annotations?.list ?? []).forEach((note, n) => say(`annotation_${n}`, 'Note', note));
  (templating?.list ?? []).forEach((variable, n) => say(`variable_${n}`, 'Variable', variable));
  all.forEach((panel, n) => {
    if (panel.type === 'row') return say(`panel_${n}`, 'Json<RowPanel>', panel);
    const { options, targets, fieldConfig, ...frame } = panel;
    const { custom, ...defaults } = fieldConfig?.defaults ?? {};
    const plugin = panels[panel.type];
    // Of a panel that we know no schema of nothing is right.
    const options_type = plugin ? `Json<${plugin}.Options>` : 'never';
    say(`panel_${n}`, 'Json<Panel>', frame);
    say(`panel_${n}_defaults`, `Json<NonNullable<Panel['fieldConfig']>>`, { ...fieldConfig, defaults });
    say(`panel_${n}_options`, schema.lenient ? `Partial<${options_type}>` : options_type, options);
    if (!plain_fields.includes(panel.type)) say(`panel_${n}_custom`, plugin ? `Json<${plugin}.FieldConfig>` : 'never', custom ?? {});
    else if (custom) say(`panel_${n}_custom`, 'never', custom);
    say(`panel_${n}_targets`, 'Array<Json<PrometheusDataQuery>>', targets);
  });
  return lines.join('\n');
}

// The faults of types in each of these boards, by name.
function typed(boards, schema) {
  const files = new Map(Object.entries(boards).map(([name, board]) => {
    const file = join(scratch, `${schema.name}-${name}.ts`);
    writeFileSync(file, source(board, schema));
    return [file, name];
  }));
  const program = ts.createProgram([...files.keys()], {
    strict: true, noEmit: true, skipLibCheck: true, types: [], lib: ['lib.es2022.d.ts', 'lib.dom.d.ts'], target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler,
    paths: { '@grafana/schema': [join(here, 'node_modules', schema.name, schema.index)], [`${schema.name}/*`]: [join(here, 'node_modules', schema.name, '*')],
      'grafana-schema-10/*': [join(here, 'node_modules/grafana-schema-10/*')] },
  });
  const faults = [];
  for (const fault of ts.getPreEmitDiagnostics(program)) {
    const text = ts.flattenDiagnosticMessageText(fault.messageText, '\n    ');
    const { line } = fault.file ? fault.file.getLineAndCharacterOfPosition(fault.start) : {};
    const what = fault.file?.text.split('\n')[line].match(/^export const (\w+)/)?.[1] ?? 'all';
    faults.push({ board: files.get(fault.file?.fileName), text: `${what} (${schema.name}): ${text}` });
  }
  return faults;
}

// What no type tells.
function conventions(boards) {
  const faults = [];
  const uids = new Map();
  const here = Object.values(boards).map((board) => board.uid);
  for (const [name, board] of Object.entries(boards)) {
    const fault = (text) => faults.push({ board: name, text });
    if (board.uid !== `tandem-${name}`) fault(`uid is ${board.uid}, not tandem-${name}`);
    if (uids.has(board.uid)) fault(`uid is that of ${uids.get(board.uid)} too`);
    uids.set(board.uid, name);
    if (board.schemaVersion !== schemaVersion) fault(`schemaVersion is ${board.schemaVersion}, not ${schemaVersion}`);
    if (board.refresh !== '5s') fault(`refresh is ${board.refresh}, not 5s`);
    if (!board.tags?.includes('tandem')) fault('no tag tandem: the other dashboards would not link here');
    if (!board.links?.some((link) => link.tags.includes('tandem'))) fault('no links to the other dashboards');
    if ('id' in board) fault('it has an id, which is that of one Grafana: null it or drop it');
    const known = new Set((board.templating?.list ?? []).map((variable) => variable.name));
    for (const wanted of ['datasource', 'job', 'cluster', 'node']) if (!known.has(wanted)) fault(`no variable ${wanted}`);
    const ids = new Set();
    const cells = new Map();
    for (const panel of board.panels ?? []) {
      const at = `panel ${panel.id} "${panel.title}"`;
      if (ids.has(panel.id)) fault(`${at}: its id is another's too`);
      ids.add(panel.id);
      const { x, y, w, h } = panel.gridPos ?? {};
      if (!(x >= 0 && y >= 0 && w > 0 && h > 0 && x + w <= 24)) fault(`${at}: gridPos is not within 24 columns`);
      for (let column = x; column < x + w; column++) {
        for (let line = y; line < y + h; line++) {
          if (cells.has(`${column},${line}`)) { fault(`${at}: lies over ${cells.get(`${column},${line}`)}`); column = 24; break; }
          cells.set(`${column},${line}`, at);
        }
      }
      if (panel.type === 'row') continue;
      const { defaults } = panel.fieldConfig ?? {};
      if (!(panel.description?.length > 20)) fault(`${at}: no description`);
      if (!defaults?.unit) fault(`${at}: no unit`);
      if (!defaults?.noValue) fault(`${at}: no noValue`);
      if (!defaults?.thresholds) fault(`${at}: no thresholds`);
      if (!panel.targets?.length) fault(`${at}: no query`);
      for (const target of [panel, ...(panel.targets ?? [])]) {
        if (target.datasource?.uid !== '${datasource}') fault(`${at}: asks another data source than \${datasource}`);
      }
      for (const [, link] of JSON.stringify(panel).matchAll(/"url":"\/d\/([\w-]+)/g)) if (!here.includes(link)) fault(`${at}: links to ${link}, which is not here`);
    }
    // In queries and links: what is neither a variable of ours nor one that Grafana has.
    for (const [, brace, plain] of JSON.stringify(board).matchAll(/\$(?:\{(\w+)(?::\w+|\.[\w.]+)?\}|(\w+))/g)) {
      const used = brace ?? plain;
      if (!known.has(used) && !used.startsWith('__')) fault(`variable $${used} is not defined`);
    }
  }
  return faults;
}

const first = (board, type) => board.panels.find((panel) => panel.type === type);
// Each breaks a copy of a board in one way, which one of the checks must tell.
const breaks = {
  'an option that the panel does not have': (board) => { first(board, 'timeseries').options.legends = {}; },
  'an option of another type': (board) => { first(board, 'stat').options.graphMode = 'areas'; },
  'an option that is missing': (board) => { delete first(board, 'state-timeline').options.rowHeight; },
  'a field of the panel that is misspelt': (board) => { first(board, 'timeseries').fieldConfig.defaults.custom.drawStyl = 'line'; },
  'a field of the panel with a value that there is not': (board) => { first(board, 'timeseries').fieldConfig.defaults.custom.stacking.mode = 'stacked'; },
  'thresholds of no mode': (board) => { first(board, 'stat').fieldConfig.defaults.thresholds.mode = 'relative'; },
  'a mapping of no type': (board) => { first(board, 'state-timeline').fieldConfig.defaults.mappings[0].type = 'values'; },
  'a query without an expression': (board) => { delete first(board, 'stat').targets[0].expr; },
  'a query with a key that there is not': (board) => { first(board, 'stat').targets[0].legend = 'x'; },
  'a panel that we know no schema of': (board) => { first(board, 'stat').type = 'graph'; },
  'a variable of no type': (board) => { board.templating.list[1].type = 'label'; },
  'a dashboard with a key that there is not': (board) => { board.refreshEvery = '5s'; },
  'a cursor that there is not': (board) => { board.graphTooltip = 3; },
  'a panel without a unit': (board) => { delete first(board, 'stat').fieldConfig.defaults.unit; },
  'a panel without a description': (board) => { first(board, 'stat').description = ''; },
  'a panel over another': (board) => { first(board, 'stat').gridPos.y += 1; first(board, 'stat').gridPos.h += 9; },
  'a variable that is not defined': (board) => { first(board, 'stat').targets[0].expr += ' * $nodes'; },
  'a data source by its name': (board) => { first(board, 'stat').targets[0].datasource = { type: 'prometheus', uid: 'prometheus' }; },
};

const names = readdirSync(folder).filter((file) => file.endsWith('.json')).map((file) => file.slice(0, -5)).sort();
const texts = Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, `${name}.json`), 'utf8')]));
const boards = Object.fromEntries(names.map((name) => [name, JSON.parse(texts[name])]));
rmSync(scratch, { recursive: true, force: true });
mkdirSync(scratch, { recursive: true });

const faults = [];
for (const name of names) {
  if (process.argv.includes('--write')) writeFileSync(join(folder, `${name}.json`), canonical(boards[name]));
  else if (texts[name] !== canonical(boards[name])) faults.push({ board: name, text: 'not in the form that is kept here: tests/dashboards/check --write' });
}
faults.push(...conventions(boards), ...schemas.flatMap((schema) => typed(boards, schema)));
for (const { board, text } of faults) console.log(`dashboards/${board}.json: ${text}`);

const broken = Object.fromEntries(Object.entries(breaks).map(([what, break_it]) => {
  const copy = structuredClone(boards.overview);
  break_it(copy);
  return [what, copy];
}));
const plain = (what) => what.replaceAll(' ', '-');
const told = [
  ...Object.entries(broken).flatMap(([what, copy]) => conventions({ ...boards, overview: copy }).filter(({ board }) => board === 'overview').map(() => what)),
  ...typed(Object.fromEntries(Object.entries(broken).map(([what, copy]) => [plain(what), copy])), schemas[0]).map(({ board }) => board),
];
const missed = Object.keys(broken).filter((what) => !told.includes(what) && !told.includes(plain(what)));
for (const what of missed) console.log(`nobody finds ${what}`);

const count = Object.values(boards).reduce((sum, board) => sum + board.panels.filter((panel) => panel.type !== 'row').length, 0);
console.log(`${names.length} dashboards with ${count} panels, ${faults.length} faults; ${Object.keys(breaks).length - missed.length} of ${Object.keys(breaks).length} broken ones are found`);
process.exit(faults.length + missed.length > 0 ? 1 : 0);
