/** A notice in the shapes that receivers take: Standard Webhooks' own frame, Slack's, OCSF's (docs/notices.md 3 and 6). */
import type { Instant } from '#src/clock.ts';
import { parseInstant } from '#src/clock.ts';
import { printableText, shownText } from '#src/terminal.ts';
import { VERSION } from '#src/version.ts';
import type { Notice, NoticeGroup } from './notice.ts';

/** `{type, timestamp, data}`. */
export function webhookBody(notice: Notice): string {
  const { type, timestamp, ...data } = notice;
  return JSON.stringify({ type, timestamp, data });
}

/** Hosts that a chat shows. */
const SLACK_HOSTS = 5;
/** Characters that a section takes; of the sentence above, and of each change, those that are shown. */
const SLACK_SECTION = 3000;
const SLACK_TITLE = 300;
const SLACK_WHAT = 120;
const COLOURS = { critical: '🔴', high: '🟠', medium: '🟡', low: '🔵', info: '⚪' } as const;

/** `text` is what notifications and old clients show. */
export function slackBody(notice: Notice): string {
  const { severity, text, hosts, more, link, groups, moreGroups, type } = notice;
  // Shortened before it is escaped: no entity is cut, and the longest of escapes leaves it below what a section takes.
  const title = `${COLOURS[severity]} *${severity}* ${slackText(shortened(text, SLACK_TITLE))}`;
  const names = hosts.slice(0, SLACK_HOSTS).map(({ name }) => slackText(name));
  const rest = hosts.length - names.length + more;
  const lines = [
    ...groups.map(
      (group) =>
        `• ${group.severity}: <${group.link}|${slackText(shortened(group.what, SLACK_WHAT))}> (${group.hosts.open} open)`,
    ),
    ...(moreGroups > 0 ? [`• and ${moreGroups} more`] : []),
    ...(names.length > 0 ? [`${names.join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`] : []),
  ];
  const open = `<${link}|Open in Bootproof>`;
  // Whole lines, as many as there is room for: the link is always there.
  let room = SLACK_SECTION - open.length;
  const shown = lines.filter((line) => (room -= line.length + 1) >= 0);
  return JSON.stringify({
    text: `${severity}: ${slackText(text)}`,
    blocks: [
      { type: 'section', text: { type: 'mrkdwn', text: title } },
      { type: 'section', text: { type: 'mrkdwn', text: [...shown, open].join('\n') } },
      { type: 'context', elements: [{ type: 'mrkdwn', text: type }] },
    ],
  });
}

const shortened = (text: string, most: number): string =>
  text.length <= most ? text : `${text.slice(0, most - 1).toWellFormed()}…`;

/** What came from hosts must not become a link, a mention or markup. Zero-width spaces keep `@here` and the like from counting. */
function slackText(text: string): string {
  return shownText(text)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll(/[*_~`]/g, (mark) => `\u200B${mark}`);
}

/** Of the schema that these events keep to; its Findings have not changed since in what stands here. */
export const OCSF_VERSION = '1.5.0';

const SEVERITY_IDS = { info: 1, low: 2, medium: 3, high: 4, critical: 5 } as const;
const SEVERITY_NAMES = ['', 'Informational', 'Low', 'Medium', 'High', 'Critical'] as const;
const ACTIVITIES = ['', 'Create', 'Update', 'Close'] as const;
const STATUSES = { 1: 'New', 2: 'In Progress', 4: 'Resolved' } as const;

/** Detection Finding. */
const DETECTION = 2004;
/** Compliance Finding. */
const COMPLIANCE = 2003;

type Ocsf = Readonly<Record<string, unknown>>;

/**
 * One OCSF event: Detection Finding for findings and what is about many of them, Compliance Finding for verdicts and images, which say
 * whether a control holds. `id` is the message's, the same at each attempt.
 */
export function ocsfEvent(notice: Notice, id: string): Ocsf {
  const { type, group, text, link, severity, hosts, more, timestamp } = notice;
  const activity = activityOf(notice);
  const isControl = type === 'host.verdict' || type === 'image.trust';
  const classUid = isControl ? COMPLIANCE : DETECTION;
  const status = activity === 3 ? 4 : 1;
  const severityId = SEVERITY_IDS[severity];
  return {
    category_uid: 2,
    category_name: 'Findings',
    class_uid: classUid,
    class_name: isControl ? 'Compliance Finding' : 'Detection Finding',
    activity_id: activity,
    activity_name: ACTIVITIES[activity],
    type_uid: classUid * 100 + activity,
    severity_id: severityId,
    severity: SEVERITY_NAMES[severityId],
    status_id: status,
    status: STATUSES[status],
    time: millis(timestamp),
    message: text,
    metadata: {
      version: OCSF_VERSION,
      uid: id,
      event_code: type,
      product: { name: 'Bootproof', vendor_name: 'Bootproof', version: VERSION },
    },
    finding_info: {
      uid: findingUid(notice),
      title: group?.what ?? text,
      desc: text,
      types: [type],
      src_url: link,
      product_uid: 'bootproof',
      modified_time: millis(timestamp),
      ...(group === null ? {} : { first_seen_time: millis(group.firstSeen), analytic: analyticOf(group) }),
    },
    resources: [
      ...hosts.map((host) => ({
        uid: host.id,
        name: host.name,
        type: 'host',
        ...(host.group === null ? {} : { group: { name: host.group } }),
      })),
      ...(notice.image === null ? [] : [{ uid: notice.image.digest, type: 'container image' }]),
    ],
    ...(isControl ? { compliance: complianceOf(notice) } : { is_alert: activity !== 3, ...evidenceOf(group) }),
    unmapped: {
      dedupe: notice.dedupe,
      more_hosts: more,
      ...(group === null
        ? {}
        : { group: { rule: group.rule, kind: group.kind, subject: group.subject, ...group.hosts } }),
      ...(notice.why === null ? {} : { why: notice.why }),
      ...(notice.waiver === null ? {} : { waiver: notice.waiver }),
      ...(notice.digest === null ? {} : { digest: notice.digest }),
      ...(notice.conditionError === null ? {} : { condition_error: notice.conditionError }),
      ...(notice.groups.length === 0
        ? {}
        : { groups: notice.groups.map(({ id: uid, what }) => ({ uid, what })), more_groups: notice.moreGroups }),
    },
  };
}

const millis = (time: string): Instant => parseInstant(time)!;

/** The thing that is told of, the same for all messages about it. */
function findingUid({ group, verdict, image, waiver, dedupe, type }: Notice): string {
  if (group !== null) return group.id;
  if (waiver !== null) return waiver.id;
  if (verdict !== null) return `verdict:${verdict.to}`;
  return image === null ? `${type}:${dedupe.split('/').at(-2)}` : image.digest;
}

const UPDATES: ReadonlySet<Notice['type']> = new Set([
  'finding.spread',
  'finding.regressed',
  'finding.returned',
  'finding.overdue',
  'waiver.expiring',
  'waiver.waiting',
]);

function activityOf({ type, verdict, image }: Notice): 1 | 2 | 3 {
  if (type === 'finding.resolved' || verdict?.to === 'compliant' || image?.state === 'trusted') return 3;
  return UPDATES.has(type) ? 2 : 1;
}

const analyticOf = ({ rule }: NoticeGroup) => ({ type_id: 1, type: 'Rule', uid: rule, name: rule });

/** The file, where it is about one. */
function evidenceOf(group: NoticeGroup | null) {
  if (group === null || !group.subject.startsWith('/')) return {};
  const name = group.subject.slice(group.subject.lastIndexOf('/') + 1);
  return { evidences: [{ file: { name: name === '' ? '/' : name, path: group.subject, type_id: 0 } }] };
}

function complianceOf({ verdict, image }: Notice) {
  const good = verdict === null ? image?.state === 'trusted' : verdict.to === 'compliant';
  const unknown =
    verdict === null ? image?.state === 'unverifiable' : ['silent', 'unverifiable', 'new'].includes(verdict.to);
  const status = good ? 1 : unknown ? 2 : 3;
  return {
    control:
      verdict === null ? 'The image is signed as policy demands' : 'The host is the image that its builders signed',
    standards: ['Bootproof policy'],
    status_id: status,
    status: ['', 'Pass', 'Warning', 'Fail'][status],
    status_detail: verdict?.to ?? image?.state,
  };
}

/** One line for people: severity, sentence, hosts, where to look. */
export function plainText({ severity, text, hosts, more, link }: Notice): string {
  const names = hosts.map(({ name }) => name).join(', ');
  const rest = more > 0 ? ` and ${more} more` : '';
  return printableText(`${severity}: ${text}${names === '' ? '' : ` [${names}${rest}]`} ${link}`);
}
