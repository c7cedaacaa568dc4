/** The version of Bootproof, as package.json has it: of agent, server and command alike. */
export const VERSION = '0.1.0';
