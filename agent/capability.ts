/** `security.capability` for people, as getcap writes it (linux/capability.h, struct vfs_ns_cap_data). */

const NAMES =
  'chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore'.split(
    ' ',
  );

/** `cap_net_raw=ep`, several groups where their flags differ, `[rootid=1000]` where it holds in one namespace; base64 as it stands for what is no capability. */
export function capabilityText(base64: string): string {
  const bytes = Buffer.from(base64, 'base64');
  if (bytes.length < 4) return base64;
  const magic = bytes.readUInt32LE(0);
  const revision = magic >>> 24;
  const words = revision === 1 ? 1 : 2;
  const length = 4 + 8 * words + (revision === 3 ? 4 : 0);
  if (revision < 1 || revision > 3 || bytes.length !== length) return base64;
  const effective = (magic & 1) !== 0;
  const groups = new Map<string, string[]>();
  for (let bit = 0; bit < 32 * words; bit++) {
    const at = 4 + 8 * (bit >>> 5);
    const permitted = (bytes.readUInt32LE(at) >>> (bit & 31)) & 1;
    const inheritable = (bytes.readUInt32LE(at + 4) >>> (bit & 31)) & 1;
    const set = permitted + inheritable > 0;
    const flags = `${set && effective ? 'e' : ''}${inheritable ? 'i' : ''}${permitted ? 'p' : ''}`;
    if (set) groups.set(flags, [...(groups.get(flags) ?? []), `cap_${NAMES[bit] ?? bit}`]);
  }
  const text = [...groups].map(([flags, names]) => `${names.join(',')}=${flags}`).join(' ') || '=';
  return revision === 3 ? `${text} [rootid=${bytes.readUInt32LE(20)}]` : text;
}
