/** What the forms of a change's page have in common: what was typed before, what is wrong with it, and what is told of a refusal. */
import type { Context } from 'hono';
import { WaiverError } from '#src/finding/waiver.ts';
import { DecisionError } from '#server/decisions/may.ts';
import type { Preview } from '#server/decisions/waiverpreview.ts';
import { first, refusedStatus, type Sent, type Wrongs } from './parts/form.ts';
import type { Env, WebServices } from './services.ts';
import { capital } from './words.ts';

/** What a form before brought: what was typed, what is wrong with it, and what it would do. */
export type Decide = {
  readonly form?: 'acknowledge' | 'waiver' | 'assign' | 'comment';
  readonly sent?: Sent;
  readonly wrong?: Wrongs;
  readonly status?: 403 | 422;
  readonly preview?: Preview;
};

export type GroupPage = (c: Context<Env>, services: WebServices, decide?: Decide) => Promise<Response>;

export const LABELS = {
  until: 'Until',
  kind: 'Kind',
  expires: 'Expires',
  reason: 'Reason',
  ticket: 'Ticket',
  where: 'Where',
  note: 'Note',
};

export const typed = ({ sent }: Decide, name: string, standard = ''): string =>
  sent === undefined ? standard : first(sent, name);

/** A decision that is refused leaves the page with what was typed and why. */
export async function refusable(
  c: Context<Env>,
  services: WebServices,
  page: GroupPage,
  decide: Decide,
  field: string,
  act: () => Promise<Response>,
): Promise<Response> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof DecisionError || error instanceof WaiverError) || error.code === 'FINDING_UNKNOWN')
      throw error;
    const about = error.code === 'UNTIL_INVALID' ? 'until' : error.code === 'WAIVER_LIFE' ? 'expires' : field;
    return page(c, services, {
      ...decide,
      wrong: new Map([[about, `${capital(error.message)}.`]]),
      status: refusedStatus(error),
    });
  }
}
