/** Every bound with its reason. What we write stays far below; what we accept ends here. */

/** Linux PATH_MAX is 4096 with the NUL; a tar name beyond it cannot exist on any host. */
export const PATH_BYTES_MAX = 4095;

/** Linux NAME_MAX: no file system that a host boots from holds a longer name. */
export const NAME_BYTES_MAX = 255;

/** linux/limits.h, XATTR_SIZE_MAX: no file system holds a larger extended attribute. */
export const XATTR_BYTES_MAX = 65_536;

/** Suffixes of a backup (`X.bak~`) after each of which a name is held against the secret paths: more than any tools stack. */
export const BACKUP_SUFFIXES_MAX = 8;

/** Report payload, decoded (PROTOCOL 3.8). */
export const REPORT_BYTES_MAX = 8 * 1024 * 1024;

/** Drift lines in one report (PROTOCOL 3.8); beyond it the report says `truncated`. */
export const DRIFT_LINES_MAX = 20_000;

/** Drift in one report as JSON: of the report's 8 MiB, what holes, secrets, state and envelope do not need. */
export const DRIFT_BYTES_MAX = 6 * 1024 * 1024;

/** Holes named in one report; beyond it the list is capped and resolves nothing (PROTOCOL 3.9). */
export const HOLES_MAX = 2_000;

/** Ranges of sequence numbers that a report may call dropped: one between any two reports that a full spool kept. */
export const DROPPED_RANGES_MAX = 1_000;

/** Text files of /etc whose content a report may carry, and bytes of each (PROTOCOL 3.10). */
export const CONTENTS_MAX = 50;
export const CONTENT_BYTES_MAX = 64 * 1024;

/** All of them in one report, as JSON: beside the drift (DRIFT_BYTES_MAX) they must leave room for the rest. */
export const CONTENTS_BYTES_MAX = 1024 * 1024;

/** Globs by which an image names the files of /etc whose content may leave its hosts. */
export const CONTENT_GLOBS_MAX = 100;

/** Steps that matching two texts line by line may take: some 1,400 lines that changed, 10 ms and 8 MB; beyond it lines have gone and come. */
export const DIFF_STEPS_MAX = 2 ** 20;

/** Lines of one difference that a page or a terminal shows; the API has all. */
export const DIFF_LINES_SHOWN = 1_000;

/** Small text files of an image on disk while it is read: in an encapsulated commit all of /usr comes by before any name does. */
export const TEXT_SPOOL_BYTES_MAX = 2 ** 30;

/** Text files of /etc that are kept of one image: a full desktop has 2 MB of them. */
export const IMAGE_TEXTS_BYTES_MAX = 32 * 2 ** 20;

/** Entries of secrets, mounts and the like in one report: far above any real host. */
export const REPORT_LIST_MAX = 2_000;

/** Request bodies inflated at once: as many as the thread pool has threads by default; each may hold a whole report. */
export const INFLATE_CONCURRENCY_MAX = 4;

/** zstd window of request bodies, as a power of two: 8 MiB is the most that a report can use. */
export const ZSTD_WINDOW_LOG_MAX = 23;

/** Bounds on what an image may make us do. Handed in, so that a site can lower or raise them. */
export type ImageLimits = {
  /** Decompressed bytes of one layer. */
  readonly layerBytes: number;
  /** Decompressed over compressed bytes of one layer, looked at from `layerRatioFrom` decompressed bytes on. */
  readonly layerRatio: number;
  readonly layerRatioFrom: number;
  /** Entries of one layer. */
  readonly layerEntries: number;
  /** Bytes of one PAX header or GNU long name. */
  readonly paxBytes: number;
  /** Bytes of names, link targets and capabilities held of one layer. */
  readonly heldBytes: number;
  /** Holes of all sparse files of one layer, bytes. */
  readonly layerHoleBytes: number;
  /** Pieces of data in one sparse file. */
  readonly sparsePieces: number;
  /** Paths in the merged tree, those included that no entry names. */
  readonly treeNodes: number;
  /** Bytes of all paths of the merged tree. */
  readonly treePathBytes: number;
};

export const IMAGE_LIMITS: ImageLimits = {
  // Ten times the largest bootc image that we know of, in one layer.
  layerBytes: 64 * 2 ** 30,
  // Real layers stay below 10. Deflate ends at 1,032, zstd makes gigabytes of kilobytes.
  layerRatio: 250,
  // Real images hold files of zeros (disk images, empty databases), which are mostly such a layer's bytes. To read this much takes seconds.
  layerRatioFrom: 2 ** 30,
  // A bootc image has 40,000 to 100,000 paths in all; each held entry costs about 300 bytes of memory.
  layerEntries: 500_000,
  // What tar-core, with which composefs-rs reads, takes; the kernel's own limit is 64 KiB an xattr.
  paxBytes: 2 ** 20,
  // Half a million entries of 512 bytes.
  heldBytes: 256 * 2 ** 20,
  // Holes cost hashing time and no bytes: this is a second.
  layerHoleBytes: 2 ** 30,
  // What tar-core takes; GNU tar writes one for each run of data.
  sparsePieces: 10_000,
  treeNodes: 2_000_000,
  // Names of 4,095 bytes that share nothing make 2,000 parents each: bytes of paths, not of names, are what a tree costs.
  treePathBytes: 512 * 2 ** 20,
};

/** Contents with an fs-verity digest in one image: as many as paths (`treeNodes`). */
export const VERITY_LINES_MAX = 2_000_000;

/** Of a prepare-root.conf that is looked at: real ones have ten lines, and every object of a base this small is searched for being one. */
export const PREPARE_ROOT_BYTES_MAX = 4096;

/** Warnings of one code and layer that are told one by one; the rest is counted in one more. */
export const WARNINGS_OF_A_KIND_MAX = 20;

/** Boot ids remembered a host: enough to see A, B, A while two clones take turns (PROTOCOL 3.5). */
export const CHAIN_BOOTS_MAX = 8;

/** Holes in the sequence remembered a host; a chain with more is broken anyway and says `chain-gap`. */
export const CHAIN_GAPS_MAX = 32;

/** Accepted reports whose digests are remembered: a restored agent repeats recent numbers, never old ones. */
export const CHAIN_RECENT_MAX = 16;

/** Envelopes kept under a number that was used twice: proof needs one, a hostile host must not fill the disk. */
export const FORK_COPIES_MAX = 4;

/** Characters kept of why a report was refused: what a page shows on one line. */
export const REFUSAL_DETAIL_MAX = 400;

/** References kept that hosts claim for one image: thousands of hosts may each claim another. */
export const IMAGE_CLAIMS_MAX = 20;

/** Labels of one host: what policies and people sort it by. */
export const HOST_LABELS_MAX = 64;

/** Items on one page of any list. */
export const PAGE_ITEMS_MAX = 1000;

/** An image reference: a path of 4,095 bytes with tag and digest fits. */
export const REFERENCE_CHARS_MAX = 8192;

/** Host and repository together (distribution/reference, NameTotalLengthMax). */
export const REPOSITORY_CHARS_MAX = 255;

/** One OCI manifest or index: what registries must take (distribution-spec) and containers/image reads. */
export const MANIFEST_BYTES_MAX = 4 * 2 ** 20;

/** One image configuration, as containers/image bounds it. */
export const CONFIG_BYTES_MAX = 4 * 2 ** 20;

/** Layers of an image: rpm-ostree writes at most some hundred chunks. */
export const LAYERS_MAX = 1000;

/** Manifests named by one index: platforms times variants, with as many attestations. */
export const INDEX_ENTRIES_MAX = 1000;

/** Indexes inside indexes: nobody is known to nest more than one. */
export const INDEX_DEPTH_MAX = 3;

/** Compressed bytes of all layers of an image, added up from its manifest before the first is fetched; the largest images known have a tenth. */
export const IMAGE_BYTES_MAX = 100 * 2 ** 30;

/** Layers read at once: one inflates in the thread pool while another is hashed; more would only cost memory. */
export const LAYERS_AT_ONCE = 2;

/** Hops of one registry answer: a mirror that sends to a store that sends to a nearer one makes two. */
export const REDIRECTS_MAX = 5;

/** A token server's answer, as containers/image bounds it. */
export const TOKEN_BYTES_MAX = 2 ** 20;

/** A file of registry credentials: thousands of registries. */
export const AUTH_FILE_BYTES_MAX = 2 ** 20;

/** Members of an oci-archive: layers, manifests, attestations and folders of many images. */
export const ARCHIVE_ENTRIES_MAX = 20_000;

/** `bootc status` or `rpm-ostree status`: some kilobytes, but the latter repeats whole image manifests for each deployment. */
export const HOST_STATUS_BYTES_MAX = 16 * 2 ** 20;

/** An .origin file: some hundred bytes, with thousands of layered packages a tenth of this. */
export const ORIGIN_BYTES_MAX = 2 ** 20;

/** /proc/PID/mountinfo: the kernel's mount-max is 100,000 mounts of some hundred bytes each. */
export const MOUNTINFO_BYTES_MAX = 32 * 2 ** 20;

/** /proc/cmdline: no architecture takes more than a tenth of this. */
export const CMDLINE_BYTES_MAX = 64 * 1024;

/** A GVariant from a host: libostree bounds its own metadata objects at 10 MiB. */
export const GVARIANT_BYTES_MAX = 10 * 2 ** 20;

/** Containers inside containers in a GVariant; what ostree writes has four. */
export const GVARIANT_DEPTH_MAX = 32;

/** Deployments looked at on a disk: /boot rarely holds more than four. */
export const DEPLOYMENTS_MAX = 64;

/** A command that tells of the host; `rpm-ostree` waits for a daemon to start, `bootc` reads a slow disk. */
export const HOST_COMMAND_MS = 60_000;

/** An enrolment request or answer, decoded: a key, a host name, some tickets. */
export const ENROLMENT_BYTES_MAX = 16 * 1024;

/** A path glob in a policy; longer than any path pattern that a person writes, and what bounds matching (time ∝ glob × path). */
export const GLOB_BYTES_MAX = 1024;

/** Ways through the braces of one glob: `{a,b}{a,b}{a,b}…` doubles with each pair. */
export const GLOB_ALTERNATIVES_MAX = 100;

/** Reports in one transaction: from 64 on more gains nothing, and 256 keeps the longest wait short. */
export const INTAKE_BATCH_MAX = 256;

/** How long a report waits for others to share its commit with, in ms: far below what a host notices. */
export const INTAKE_WAIT_MS = 5;

/** Head of a request: a bearer and a cookie are some hundred bytes. */
export const HEADER_BYTES_MAX = 16 * 1024;

/** When hosts come again that found no place, seconds: each of them told another time of this range, so that a fleet does not come back as one. */
export const RETRY_LEAST_SECONDS = 5;
export const RETRY_MOST_SECONDS = 60;

/** The same of a fleet that all of this range could not take: no host waits longer, however many do. */
export const RETRY_LAST_SECONDS = 600;

/** Reports under way from which on hosts are asked to come more seldom, and from which on as seldom as is safe: up to here a server is only busy. */
export const STRAIN_FROM = 256;
export const STRAIN_FULL = 2048;

/** By how much of their interval: half an interval is the least wait, and with this a report made when it was asked for still counts as live. */
export const STRETCH_MOST = 0.4;

/** Connections of a server process that stay open between requests; beyond, each ends with its answer. An idle one costs some 10 KB. */
export const CONNECTIONS_KEPT = 4096;

/** Connections of a server process at once; beyond, new ones are closed unheard, which costs nothing. */
export const CONNECTIONS_MAX = 10_000;

/** Reports of one host under way at once: an agent sends one after another, and each other would only be decided again behind it. */
export const HOST_AT_ONCE_MAX = 16;

/** Enrolments under way at once in a server process: two signatures each. */
export const ENROL_PENDING_MAX = 256;

/** Hosts that one token enrols at once, and then a second: a hundred thousand machines that boot for the first time are in within a quarter of an hour. */
export const TOKEN_ENROLS_BURST = 2000;
export const TOKEN_ENROLS_PER_SECOND = 100;

/** The longest that reports wait for others after a commit that wrote findings, ms: as long as it took, and no longer than a host notices. */
export const INTAKE_GATHER_MS = 50;

/** Reports under way at once in a server process: some seconds of work; beyond, 503 tells hosts to come back. */
export const INTAKE_PENDING_MAX = 4096;

/** Bytes of reports under way at once in a server process, decoded: eight of the largest, thousands of usual ones. */
export const INTAKE_BYTES_MAX = 96 * 1024 * 1024;

/** A report that is read and judged on the event loop, bytes of its envelope: a `same` has about 1,100, one that names dropped ranges more. */
export const SAME_BYTES_MAX = 8 * 1024;

/** Threads that judge full reports: beyond, the one process that commits is what they wait for. */
export const JUDGE_THREADS_MAX = 4;

/** Full reports in one such thread at once, and bytes of them: while a commit holds the event loop, it goes on with the next ones. Parsed they take some times as much. */
export const JUDGE_AT_ONCE = 24;
export const JUDGE_BYTES_MAX = 24 * 1024 * 1024;

/** Full reports that wait for a thread; with the usual 100 lines of drift they are some seconds of work. */
export const JUDGE_WAITING_MAX = 256;

/** Heap of such a thread, MB: its share of the manifest texts, and four of the largest reports with what they are compared with. */
export const JUDGE_HEAP_MB = 1024;

/** Bodies of people's requests: forms and small JSON documents. */
export const API_BODY_BYTES_MAX = 64 * 1024;

/** Characters of a YAML document of ours: the shipped policy has 20,000, and one of 2,000 rules would have this many. */
export const YAML_BYTES_MAX = 512 * 1024;

/** Levels of nesting in it: our deepest document has 6. */
export const YAML_DEPTH_MAX = 20;

/** The rest of a refused layer's blob is read up to this size, to tell a damaged blob from a malformed layer. */
export const BLAME_BYTES_MAX = 256 * 2 ** 20;

/** How long SQLite itself waits for another process, ms; short, because it holds the event loop. We wait on without it. */
export const SQLITE_BUSY_WAIT_MS = 20;

/** Prepared statements kept a connection; lists have a few hundred shapes. */
export const SQLITE_STATEMENTS_MAX = 400;

/** Threads that read lists out of SQLite beside the event loop: one person's heavy list must not keep another one waiting. */
export const LIST_THREADS = 2;

/** Threads that were given up with the statement they are in may still run beside them: more would take all cores from intake. */
export const LIST_THREADS_MAX = 4;

/** A database up to this size is read through in the time that asking a thread takes: its lists are read where they are asked for. */
export const LIST_INLINE_BYTES = 16 * 2 ** 20;

/** Counters that one step of the nightly recount looks at: a step reads for some milliseconds. */
export const RECOUNT_PAGE = 500;

/** How long resolved findings stay among the others: an audit's year, and the month in which it is written. */
export const RESOLVED_KEPT_MS = 400 * 86_400_000;

/** Findings that one step moves aside: a step holds the writer for some milliseconds. */
export const ARCHIVE_PAGE = 200;

/** How long a list may take with its counts, ms: whoever waits for a page has gone by then. */
export const LIST_MS = 5_000;

/** Connections to PostgreSQL for lists, apart from those of intake: heavy lists must not take them all. */
export const POSTGRES_LIST_CONNECTIONS = 4;

/** Pages in SQLite's write-ahead log before it is folded in: 16 MiB, so that no commit has to wait for a long folding. */
export const SQLITE_WAL_PAGES = 4096;

/** Connections a server process holds to PostgreSQL for intake, decisions and single records: intake needs two or three. */
export const POSTGRES_CONNECTIONS = 6;

/** Bytes that one statement carries to PostgreSQL, about: bytes travel as hex inside array text. */
export const POSTGRES_BULK_BYTES = 16 * 1024 * 1024;

/** Repetitions of a transaction that PostgreSQL asked to repeat; more means that something else is wrong. */
export const POSTGRES_RETRIES_MAX = 10;

/** No statement of ours takes longer on a healthy database. */
export const POSTGRES_STATEMENT_MS = 30_000;

/** A host's clock that is further off than this is a finding (PROTOCOL 3.6). */
export const CLOCK_SKEW_MS = 5 * 60 * 1000;

/** Rules of a policy in each section: the shipped one has about 60; each path is held against all of them in turn. */
export const POLICY_RULES_MAX = 2_000;

/** Labels that one rule of a policy names; all must hold. */
export const POLICY_LABELS_MAX = 16;

/** Elements that one evaluation of a policy's condition may go through: a path of 4 KB by a regular expression, and some loops. */
export const POLICY_CONDITION_STEPS_MAX = 20_000;

/** Images of a host's past that are remembered: a year of weekly updates. What is older made none of the files that matter now. */
export const LINEAGE_IMAGES_MAX = 50;

/** Paths of /etc of one host of which is remembered under what they were made: a real host has some tens. */
export const LINEAGE_COPIES_MAX = 2_000;

/** Bodies that bring a policy: its documents, and what JSON adds to their line breaks and quotes. */
export const POLICY_BODY_BYTES_MAX = 2 ** 20;

/** Hosts of one answer of a dry run or preview, beside its time: what is left comes with the next request. */
export const DRY_RUN_HOSTS_MAX = 5_000;

/** Hosts that are named for each line of a dry run or preview: enough to go and look. */
export const DRY_RUN_EXAMPLES_MAX = 5;

/** Images whose /etc a server process keeps at hand: some thousand entries each. */
export const KNOWN_DEFAULTS_MAX = 64;

/** Tags that are looked up, and digests that one may lead to: an index lists a platform each. */
export const TAGS_MAX = 500;
export const TAG_DIGESTS_MAX = 100;

/** Documents of one policy: the one that counts, and those that it extends. */
export const POLICY_DOCUMENTS_MAX = 64;

/** Characters of stored policies that are kept as they were read: the one that ships has 40 thousand. */
export const POLICY_TEXT_KNOWN_MAX = 2_000_000;

/** Folders for which a policy keeps its candidate rules at hand: /usr and /etc together have about 400 on a real host. */
export const POLICY_FOLDERS_MAX = 2_000;

/** Images whose headers a server process keeps at hand: a fleet runs tens. */
export const KNOWN_IMAGES_MAX = 256;

/** Manifest texts that a server process keeps at hand, in bytes: those of some images. */
export const KNOWN_TEXT_BYTES_MAX = 128 * 1024 * 1024;

/** One manifest text: a million paths of 200 bytes. */
export const MANIFEST_TEXT_BYTES_MAX = 256 * 1024 * 1024;

/** Names in one folder of a tree: real ones stay below 20,000. All are held at once, to be sorted: so many take some 30 MB. */
export const FOLDER_NAMES_MAX = 50_000;

/** Bytes of an access path from which the walk starts anew at an open folder: PATH_MAX less one name, with room. */
export const ACCESS_BYTES_MAX = 3_800;

/** Zeros hashed for the holes of one file: some seconds of a core, and no real file of an image has so many. */
export const SPARSE_BYTES_MAX = 8 * 1024 ** 3;

/** The same in one scan: a folder full of such files must not keep a host from reporting. */
export const SPARSE_SCAN_BYTES_MAX = 32 * 1024 ** 3;

/** Files whose digests an agent keeps from run to run: four times the largest image known, in 42 MB. */
export const CACHE_FILES_MAX = 2 ** 19;

/** How often a report is decided again because another write to its host came between; more means a storm on one host. */
export const INTAKE_ATTEMPTS_MAX = 20;

/** Reports of one host at once: a spool that waited out a week of `same` reports at 15 minutes, and then one a second. */
export const HOST_REPORTS_BURST = 700;
export const HOST_REPORTS_PER_SECOND = 1;

/** Hosts whose share is remembered in a server process. */
export const QUOTA_HOSTS_MAX = 100_000;

/** passwd and shadow of a host: a hundred thousand accounts. */
export const ACCOUNT_FILE_BYTES_MAX = 16 * 1024 * 1024;

/** An account's name in a report; useradd stops at 32, directories of people go further. */
export const ACCOUNT_NAME_MAX = 256;

/** How long an image that was never built is remembered when no host has it any more; a host that was restored names it again. */
export const IMAGE_IDLE_MS = 24 * 60 * 60 * 1000;

/** After so long an image that hosts go on naming is noted again, in case it was forgotten meanwhile; far below `IMAGE_IDLE_MS`. */
export const IMAGE_NOTED_MS = 60 * 60 * 1000;

/** Bytes of reports of one host at once: what a spool holds, and then twice what it needs that sends the largest report every 15 minutes. */
export const HOST_BYTES_BURST = 128 * 1024 * 1024;
export const HOST_BYTES_PER_SECOND = 24 * 1024;

/** Images that one host may name anew: three slots, some updates at once, then one in two minutes. */
export const HOST_IMAGES_BURST = 30;
export const HOST_IMAGES_PER_SECOND = 1 / 120;

/** All layers of an image together may decompress to, and hold names of, this many times what one layer may. */
export const IMAGE_LAYERS_FACTOR = 2;

/** A pause that a server may ask for (Retry-After); beyond it the agent tries again all the same. */
export const RETRY_AFTER_MS_MAX = 60 * 60 * 1000;

/** A file in which the agent keeps its own state: some hundred bytes, and a thousand ranges of dropped reports. */
export const STATE_FILE_BYTES_MAX = 2 ** 20;

/** A settings file of the agent. */
export const CONFIG_FILE_BYTES_MAX = 64 * 1024;

/** What the agent reads of a server's answer; only manifest texts are larger. */
export const ANSWER_BYTES_MAX = 64 * 1024;

/** Signed headers of all rules of an image: each names its layers and warnings. */
export const HEADERS_BYTES_MAX = 16 * 2 ** 20;

/** Heap of the thread that builds manifests, MB: an image of 300,000 paths takes some hundred. */
export const BUILD_HEAP_MB = 1536;

/** Ports tried after a taken default one. */
export const LISTEN_PORTS_TRIED = 50;

/** Signatures and attestations of one image that are looked at: re-signing appends, a release signs with a few identities. */
export const SIGNATURES_MAX = 64;

/** Signatures of one image in all its places together: each is a request and, held against each authority, a few milliseconds. */
export const SIGNATURES_ALL_MAX = 1024;

/** A manifest that holds signatures: certificates, chains and log entries of all of them lie in its annotations. */
export const SIGNATURE_MANIFEST_BYTES_MAX = 2 ** 20;

/** A simple signing payload: 250 bytes, and what `-a` adds. */
export const SIMPLE_SIGNING_BYTES_MAX = 64 * 1024;

/** A bundle or envelope: SBOMs of whole distributions are statements too. */
export const STATEMENT_BYTES_MAX = 16 * 2 ** 20;

/** Bytes of all signatures of one image together. */
export const SIGNATURES_BYTES_MAX = 64 * 2 ** 20;

/** In one bundle (sigstore-go's own bounds): log entries, timestamps, certificates of a chain, subjects, digests a subject. */
export const LOG_ENTRIES_MAX = 32;
export const TIMESTAMPS_MAX = 32;
export const CHAIN_CERTIFICATES_MAX = 10;
export const SUBJECTS_MAX = 1024;
export const SUBJECT_DIGESTS_MAX = 32;

/** A certificate, key or timestamp token in DER: ten times what real ones have. */
export const SIGNATURE_DER_BYTES_MAX = 64 * 1024;

/** Nesting of foreign signed JSON: provenance and SBOMs stay below 20. */
export const SIGNED_JSON_DEPTH_MAX = 128;

/** Referrers of one image that are opened, and pages in which a registry may list them. */
export const REFERRERS_MAX = 256;
export const REFERRER_PAGES_MAX = 32;

/** Blobs of a layout that are opened in search of referrers that no index names (cosign save). */
export const LAYOUT_BLOBS_SCANNED_MAX = 2_000;

/** A trusted_root.json: the public one has 7 KB, after years of rotation. */
export const TRUST_ROOT_BYTES_MAX = 2 ** 20;

/** A name in a certificate, and a regular expression over it: URLs of workflows have a hundred characters. */
export const IDENTITY_CHARS_MAX = 2048;

/** How far a signing time may lie ahead of our clock: two machines that keep time differ by less. */
export const SIGNING_TIME_SKEW_MS = 5 * 60 * 1000;

/** Hosts read in one go for intake: beyond some tens nothing is gained. */
export const HOST_READS_MAX = 200;

/** Image policies that apply together: clusters have tens. */
export const IMAGE_POLICIES_MAX = 500;

/** Authorities of one image policy: each may verify every signature of an image. */
export const IMAGE_POLICY_AUTHORITIES_MAX = 32;

/** Globs, identities, attestations, conditions and other lists in one image policy. */
export const IMAGE_POLICY_LIST_MAX = 256;

/** One text in an image policy: a cue or rego program, or some keys in PEM. */
export const IMAGE_POLICY_TEXT_MAX = 64 * 1024;

/** Keys in PEM of one authority; each is tried on each signature. */
export const AUTHORITY_KEYS_MAX = 16;

/** Entries of a deny list: each is held against each signature that verified. */
export const DENY_ENTRIES_MAX = 10_000;

/** A CEL condition: characters, and how deep loops may stand in each other. */
export const CONDITION_CHARS_MAX = 2048;
export const CONDITION_LOOPS_MAX = 3;

/** Elements that one evaluation of a condition may go through: the packages of an SBOM, and some of each. */
export const CONDITION_STEPS_MAX = 200_000;

/** Indexes of one image whose signatures are looked for: the one that was pulled, and some before it. */
export const SIGNATURE_INDEXES_MAX = 8;

/** Places in which one image's signatures are looked for: its repository, a mirror, those that policies name. */
export const SIGNATURE_PLACES_MAX = 16;

/** Bytes of signatures of one image that are kept beside those that prove it: what a changed policy is held against without a network. */
export const SIGNATURES_KEPT_BYTES_MAX = 2 ** 20;

/** Reasons and places in one remembered result: enough to see why not. */
export const TRUST_TOLD_MAX = 200;

/** Heap of the thread that verifies signatures, MB: all signatures of one image together are 64, parsed some times that. */
export const ASSESS_HEAP_MB = 768;

/** What a TUF repository's metadata may be together: the client takes a root of 500 KB at most, and lists of targets of 5 MB. */
export const TUF_METADATA_BYTES_MAX = 8 * 2 ** 20;
export const TUF_METADATA_FILES_MAX = 32;

/** A recorded case: all signatures of one image in base64, their manifests, and the rest. */
export const RECORDED_CASE_BYTES_MAX = 192 * 2 ** 20;

/** Tests in one file of an image policy's tests: each verifies an image's signatures. */
export const IMAGE_POLICY_TESTS_MAX = 1_000;

/** A glob over image names: a repository, a digest, and stars between. */
export const IMAGE_GLOB_CHARS_MAX = 512;

/** How long a waiver may live at once, ms: long enough to mend it, short enough that somebody looks again (facts of Fleet: a year at most). */
export const WAIVER_LIFE_MS = {
  critical: 30 * 86_400_000,
  high: 90 * 86_400_000,
  medium: 365 * 86_400_000,
  low: 365 * 86_400_000,
  info: 365 * 86_400_000,
} as const;

/** How far ahead a waiver may begin, ms: a maintenance that is planned for next quarter. */
export const WAIVER_START_AHEAD_MS = 90 * 86_400_000;

/** A waiver's justification, in characters: a page; shorter limits make people cut what an auditor needs. */
export const WAIVER_TEXT_MAX = 4096;
export const WAIVER_TITLE_MAX = 200;
/** A ticket's address, in characters: as long as addresses of trackers get. */
export const WAIVER_TICKET_MAX = 2000;

/** Whoever looks after a finding, in characters: an account's id, or the name of a team. */
export const ASSIGNEE_CHARS_MAX = 200;

/** Rules, hosts, groups or labels of one waiver's selector: more is a group or a label. */
export const WAIVER_LIST_MAX = 200;

/** Contents that one waiver pins: what a package brings may be hundreds of files. */
export const WAIVER_PINS_MAX = 1000;

/** How long an acknowledgement may hold, ms: it is a reminder, and no exception. */
export const ACKNOWLEDGE_MS_MAX = 30 * 86_400_000;

/** Hosts that are judged to say how many a waiver would make compliant: a second or two of a person's time. Beyond: at least. */
export const WAIVER_PREVIEW_HOSTS = 2000;

/** Findings counted for the preview of a waiver before it says "at least": a fleet of 100,000 hosts with 20 each. */
export const WAIVER_PREVIEW_FINDINGS = 2_000_000;

/** Findings that one act on many covers: beyond it, the act was meant otherwise, or a waiver is meant. */
export const BULK_ITEMS_MAX = 100_000;

/** Findings that one transaction of an act on many changes: short enough that reports do not wait. */
export const BULK_CHUNK = 500;

/** Terms of a filter line, and its characters: what a person types, or a page of 50 selected groups by their ids and what they were filtered by. */
export const FILTER_TERMS_MAX = 40;
export const FILTER_CHARS_MAX = 5000;

/** Of them in an address of the API: escaped they must fit into a request's head (HEADER_BYTES_MAX). */
export const FILTER_QUERY_CHARS_MAX = 1000;
/** Of a path there: likewise, in characters that are escaped as three at the most. */
export const PATH_QUERY_CHARS_MAX = 5000;

/** Turns (openings and endings) of a finding within a day that make it flap, and how long that is said. */
export const FLAPPING_TURNS = 4;
export const FLAPPING_MS = 86_400_000;

/** How long a browser stays signed in, ms: a working day; and how long without being used, so that an open screen at night is none. */
export const SESSION_MS = 12 * 3_600_000;
export const SESSION_IDLE_MS = 2 * 3_600_000;

/** Sessions of one account at once: a person has some browsers; the oldest gives way. */
export const SESSIONS_MAX = 20;

/** How often the use of a session or token is written down, ms: reading pages must not be a write each. */
export const USED_NOTED_MS = 60_000;

/** How long a person has at the provider's pages, ms: a second factor that has to be fetched from a drawer. */
export const SIGN_IN_MS = 10 * 60_000;

/** Groups that a provider tells of a person, and characters of each; Entra ID sends 200 at most, and names none beyond. */
export const CLAIMS_MAX = 500;
export const CLAIM_CHARS_MAX = 256;

/** How long an OpenID provider may take to answer, ms: a person waits. */
export const OIDC_TIMEOUT_MS = 10_000;

/** What an OpenID provider's document may hold, bytes: keys and metadata are some KB. */
export const OIDC_BYTES_MAX = 2 ** 20;

/** Life of an API token, ms: at most a year, so that a forgotten one ends. */
export const API_TOKEN_MS = 90 * 86_400_000;
export const API_TOKEN_MS_MAX = 366 * 86_400_000;

/**
 * Failures of one address, and of all together (IPv6 has too many addresses): at once, and each minute after. Sign-ins that failed go into
 * the trail, which nobody should fill; a wrong bearer costs one read, and a program that was given a wrong one asks often.
 */
export const SIGN_INS_FAILED = { each: { burst: 10, perMinute: 5 }, all: { burst: 100, perMinute: 60 } } as const;
export const TOKENS_FAILED = { each: { burst: 300, perMinute: 60 }, all: { burst: 3000, perMinute: 600 } } as const;

/** Addresses whose failures are remembered; the one seen longest ago is forgotten. */
export const FAILING_ADDRESSES_MAX = 10_000;

/** How long a notice gathers what belongs to it, and how far updates of one topic stand apart, ms: Alertmanager's defaults, tried by many. */
export const NOTICE_WAIT_MS = 30_000;
export const NOTICE_INTERVAL_MS = 5 * 60_000;

/** Storm guard: so much within this time is one message. Below the floor of hosts a share of them says nothing. */
export const NOTICE_STORM_MS = 10 * 60_000;
export const NOTICE_STORM_GROUPS = 500;
export const NOTICE_STORM_SHARE = 0.05;
export const NOTICE_STORM_HOSTS_MIN = 20;

/** How long a new host is not told of, ms: it is being set up, and whoever does so sees it there. At most a week. */
export const NOTICE_GRACE_MS = 3_600_000;
export const NOTICE_GRACE_MS_MAX = 7 * 86_400_000;

/** Hosts that one message names: 100,000 would be 20 MB; the link leads to the rest. */
export const NOTICE_HOSTS_SHOWN = 100;

/** Hosts in one row of the outbox. */
export const NOTICE_HOST_ROWS_MAX = 500;

/** Rows of the outbox read at once, and groups that a message about many names. */
export const NOTICE_ROWS_AT_ONCE = 2000;
export const NOTICE_GROUPS_SHOWN = 10;

/** Channels: every change of state asks each of them. */
export const CHANNELS_MAX = 50;

/** Delays before attempts 2, 3 …, ms, as Standard Webhooks proposes them; then the message is dead, and a person may send it again. */
export const NOTICE_RETRIES_MS = [
  5_000, 300_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 50_400_000, 72_000_000, 86_400_000,
] as const;

/** How long a receiver may take to answer, and what of its answer is read. */
export const NOTICE_TIMEOUT_MS = 10_000;
export const NOTICE_ANSWER_BYTES_MAX = 4096;

/** Messages that one run of a channel sends before others have their turn. */
export const NOTICE_SENT_AT_ONCE = 50;

/** One syslog message over UDP must fit a datagram (RFC 5426 3.2: at least 2048 are taken everywhere), over TCP a collector's buffer. */
export const SYSLOG_DATAGRAM_BYTES = 2048;
export const SYSLOG_BYTES_MAX = 65_536;

/** Steps of a channel's condition over one transition, and conditions that are kept read: a fleet has some dozens of channels. */
export const NOTICE_CONDITION_STEPS_MAX = 2000;
export const NOTICE_CONDITIONS_KEPT = 200;

/** After how long a finding that nobody has acknowledged is reminded of, ms; null: never. A day for what is critical, as on-call rotas turn. */
export const NOTICE_OVERDUE_MS = {
  critical: 86_400_000,
  high: 3 * 86_400_000,
  medium: 14 * 86_400_000,
  low: null,
  info: null,
} as const;

/** How long before its end a waiver is reminded of, ms: time for a fix to be rolled out, then the last call (facts of review, section 2). */
export const NOTICE_EXPIRING_MS = [14 * 86_400_000, 3 * 86_400_000] as const;

/** After how long a request that nobody has decided about is reminded of, ms. */
export const NOTICE_WAITING_MS = 86_400_000;

/** Groups that one look for what is overdue takes: the next look has the rest. */
export const NOTICE_OVERDUE_AT_ONCE = 200;

/** How long deliveries are kept, ms: what came in, to look up; what did not, to send again. What was told stays as long as storms look back. */
export const NOTICE_KEPT_MS = {
  told: 3_600_000,
  delivered: 30 * 86_400_000,
  dead: 90 * 86_400_000,
  // Longer than any waiver lives: what was reminded of once stays so.
  reminded: 400 * 86_400_000,
  // How many there were of each day: what an audit of a year looks back on, twice.
  tally: 800 * 86_400_000,
} as const;

/** Of what an image says of one layer, characters; and components that it names: only ever shown. A RUN with a script in it is some KB. */
export const LAYER_WORDS_MAX = 4096;
export const LAYER_COMPONENTS_MAX = 100;

/**
 * Package databases that an image carries: Fedora's is 20 to 100 MB, Debian's some thousand small lists. Kept on disk while the image is read;
 * one that is larger, or more of them than this together, is not read, and that is said.
 */
export const PACKAGE_DB_BYTES_MAX = 512 * 2 ** 20;
export const PACKAGE_LIST_BYTES_MAX = 32 * 2 ** 20;
export const PACKAGE_KEPT_BYTES_MAX = 2 * 2 ** 30;
export const PACKAGE_KEPT_FILES_MAX = 40_000;

/** Packages of one image, and the files that all of them own: a full desktop has 3,000 with 400,000. */
export const PACKAGES_MAX = 20_000;
export const PACKAGE_FILES_MAX = 2_000_000;
/** One RPM header, bytes and tags: rpm itself takes 256 MiB and 65,535 (lib/header.c: HEADER_DATA_MAX, HEADER_TAGS_MAX); real ones stay below 8 MiB. */
export const RPM_HEADER_BYTES_MAX = 32 * 2 ** 20;
export const RPM_HEADER_TAGS_MAX = 65_535;
/** A package's name, version or architecture, characters: only ever shown. */
export const PACKAGE_WORD_MAX = 200;
/** Packages that are named as owners of one path: more share directories only. */
export const PATH_OWNERS_MAX = 8;
/** Symlinks on the way to an owned path, as the kernel has it (MAXSYMLINKS). */
export const OWNER_LINKS_MAX = 40;

/** Entries that one sequencing gives their places: some tiles, and some ten milliseconds of the event loop. */
export const LOG_BATCH_MAX = 1024;

/** Rows of the log that one step of its verification reads. */
export const LOG_CHECK_ROWS = 1024;

/** A checkpoint with its signatures, the witnesses' among them (docs/log.md); what reports echo and answers carry. */
export const CHECKPOINT_BYTES_MAX = 8192;

/** An entry of the log: what two bytes of length can say (C2SP tlog-tiles). */
export const LOG_ENTRY_BYTES_MAX = 65_535;

/** A timestamp authority's answer: some 6 KB with its certificates. */
export const TIMESTAMP_BYTES_MAX = 65_536;
/** Certificates of one timestamp, or of one file of authorities; and how many may stand between one and a root. */
export const TIMESTAMP_CERTIFICATES_MAX = 64;
export const TIMESTAMP_PATH_MAX = 8;

/** Witnesses and timestamp authorities of one server: each is asked by itself, and each signature lies in every checkpoint. */
export const ANCHORS_MAX = 16;
/** How long a witness or authority may take to answer, ms, and what is read of the answer. */
export const ANCHOR_TIMEOUT_MS = 10_000;
export const ANCHOR_ANSWER_BYTES_MAX = 65_536;
/** How late one that fails is asked again at most, ms: what it then signs is worth no less. */
export const ANCHOR_RETRY_MOST_MS = 3_600_000;

/** Signatures of one note: the log's own, and more witnesses than anybody asks (C2SP signed-note: at least 16 are taken). */
export const NOTE_SIGNATURES_MAX = 32;

/** What is kept at hand of where paths come from, bytes: a full desktop's image is 2 MB. */
export const ORIGINS_MEMORY_BYTES = 32 * 1024 * 1024;

/** Images that are looked through for one content, each with a few KB of marks: more is told, and not looked at. */
export const ORIGINS_IMAGES_MAX = 5_000;

/** Times that a host ran one image which are told of it: with an update a week this is more than a year. */
export const LINEAGE_STAYS_MAX = 64;

/** Tiles of the log that are kept at hand, 8 KB each, and consistency proofs: hosts that reported within a minute echo as many sizes. */
export const LOG_TILES_KEPT = 512;
export const LOG_PROOFS_KEPT = 1000;

/** Faults of the log that its verification tells one by one: enough to see where; the rest is counted. */
export const LOG_FAULTS_TOLD = 200;

/** Members of an evidence bundle, and bytes of their directory: texts of some thousand images, and parts of a GiB of the rest. */
export const BUNDLE_MEMBERS_MAX = 100_000;
export const BUNDLE_DIRECTORY_BYTES_MAX = 32 * 2 ** 20;

/** The signed statement of a bundle: a line of some 150 bytes for each member. */
export const BUNDLE_STATEMENT_BYTES_MAX = 32 * 2 ** 20;

/** A line of a bundle's lists: the largest envelope with its salt. */
export const BUNDLE_LINE_BYTES_MAX = 16 * 2 ** 20;

/** A part of a list in a bundle, bytes: far below the 4 GiB of a zip's member, and what an export that was interrupted writes again. */
export const BUNDLE_PART_BYTES = 2 ** 28;

/** Faults that one step of a verification names; the others are counted. */
export const FAULTS_SHOWN = 8;

/** Observations that one finding or risk of an OSCAL document names; all of them would be a list as long as the fleet, held in memory. */
export const OSCAL_RELATED_MAX = 100;
/** Groups of open findings that an OSCAL document has a risk for; a fleet has hundreds. */
export const OSCAL_RISKS_MAX = 10_000;
/** A table that `evidence sample` reads at once: a million rows of 256 bytes. */
export const SAMPLE_TABLE_BYTES_MAX = 2 ** 28;

/** Rows of one table of the printed report: some thirty pages. What is beyond is counted there, and stands in the CSV files. */
export const REPORT_ROWS_MAX = 600;

/** How far times of log entries may run back, ms: transactions that overlap, a clock that was set; beyond, somebody wrote them. */
export const LOG_DISORDER_MS = 10 * 60_000;

/** A checkpoint, proof or trusted root that an auditor brings, bytes. */
export const BUNDLE_BROUGHT_BYTES_MAX = 2 ** 20;

/** Different checkpoints that reports of a bundle repeat and that are held against its log: of 90 days some thousand; each takes some hundred bytes. */
export const BUNDLE_ECHOES_MAX = 50_000;

/** Evidence exports that are kept at once, each with its file, and for how long: until an auditor took it away. */
export const EXPORTS_MAX = 20;
export const EXPORT_KEPT_MS = 7 * 86_400_000;
/** Bytes of one bundle, and how much of the disk stays free whatever is asked for: intake needs it more. */
export const EXPORT_BYTES_MAX = 64 * 2 ** 30;
export const EXPORT_FREE_BYTES = 2 ** 30;
/** Of one that lies in the database, where processes share no disk; and of a piece of it, a row: what a download holds at once. */
export const EXPORT_STORED_BYTES_MAX = 8 * 2 ** 30;
export const EXPORT_PIECE_BYTES = 2 ** 20;
/** Heap of the thread that makes a bundle, MB: it holds one host and one page at a time. */
export const EXPORT_HEAP_MB = 512;
/** Pages of SQLite that its connections keep, KiB: what is read once is not read again, and a cache that fills looks like memory that grows. */
export const SQLITE_ALONE_KIB = 8192;
/** Rows that an export reads at once, and hosts. */
export const EXPORT_PAGE = 200;
/** Log entries of a host that are looked through for the last full report before the period, and findings older than the log: a year of days. */
export const EXPORT_REPORTS_BACK = 4000;
/** A longest period, ms: ten years. */
export const EXPORT_PERIOD_MS = 10 * 366 * 86_400_000;
/** How often an export is begun before it is given up, where our own fault ended it; a server that stopped counts as none. */
export const EXPORT_ATTEMPTS_MAX = 3;

/** Entries of a host that one page of a question about the past reads; a host has some a day. */
export const POSTURE_PAGE = 200;
/** Entries of a host that such a question walks past until it has what it looks for: a finding that opens and ends every minute, for a day. */
export const POSTURE_WALK_MAX = 2000;
/** Findings of one host that stood at a moment or since: as many as a report that was cut lists. */
export const POSTURE_EPISODES_MAX = 20_000;
/** Reports that did not come live and were made before a moment, the newest, that are opened to see when: more than an agent spools a day. */
export const POSTURE_LATE_MAX = 100;

/** Payloads that one step of a purge looks at, and bytes of judgements among them: some 20 ms in which nobody else writes. */
export const RETENTION_PAGE = 200;
export const RETENTION_BYTES = 4 * 2 ** 20;
/** Entries that one step adds to the sums of what is held. */
export const RETENTION_COUNT_PAGE = 500;
/** How often a night goes over what is held because there is too much of it: each time the line moves on to what is younger. */
export const RETENTION_PASSES_MAX = 10;
/** How long other settings of retention wait before anything goes under them, ms: a slip is seen before it costs a fleet's past. */
export const RETENTION_GRACE_MS = 24 * 3_600_000;

/** A hold: what it is on, and why. Somebody reads both in a list. */
export const HOLD_HOSTS_MAX = 1000;
export const HOLD_GROUPS_MAX = 100;
export const HOLD_REASON_MAX = 2000;

/** A list of hosts that somebody else keeps, characters: a hundred thousand rows of some columns. As JSON, every quote is two. */
export const INVENTORY_CHARS_MAX = 16 * 2 ** 20;
export const INVENTORY_BODY_BYTES_MAX = 32 * 2 ** 20;
export const INVENTORY_ROWS_MAX = 250_000;
export const INVENTORY_COLUMNS_MAX = 1000;
/** A name, id or label of such a list: longer than DNS and our own labels allow. */
export const INVENTORY_CELL_CHARS_MAX = 300;
export const INVENTORY_LABELS_MAX = 10;
/** Both differences as JSON: they are one line of a bundle (BUNDLE_LINE_BYTES_MAX). */
export const INVENTORY_DIFFERENCES_BYTES_MAX = 12 * 2 ** 20;
/** Lists that are known by name, and versions of each of which the list itself is kept; what it was compared to is kept of all. */
export const INVENTORY_SOURCES_MAX = 100;
export const INVENTORY_LISTS_KEPT = 30;
/** Hosts that one read gives to hold a list against. */
export const INVENTORY_HOSTS_PAGE = 5000;
/** Differences of each kind that a page shows: more is on the command line. */
export const INVENTORY_SHOWN = 500;

/** How long `/readyz` waits for the store, ms: a probe gives up after a second or some, and a database that hangs is one that is not there. */
export const HEALTH_WAIT_MS = 2_000;

/** Requests under way get so long to end when the server stops, ms: an orchestrator kills after 30 s where nobody says otherwise. */
export const STOP_WITHIN_MS = 20_000;

/** Rows that `server fsck` reads at a time, and bytes of envelopes among them: its memory stays flat, whatever the store holds. */
export const FSCK_PAGE = 500;
export const FSCK_PAGE_BYTES = 8 * 1024 * 1024;

/** Faults that `server fsck` tells one by one of each kind; the rest is counted. */
export const FSCK_TOLD = 50;

/** Work that is due for so long while the server took other things in, or was tried so often, is stuck. */
export const JOB_STUCK_MS = 3_600_000;
export const JOB_STUCK_ATTEMPTS = 12;

/** How long a database is waited for by who only asks how it stands, ms. */
export const STANDING_WAIT_MS = 10_000;

/** How long a server that must not migrate waits for who does, ms: the largest migration so far takes seconds, a Job may queue for minutes. */
export const MIGRATION_WAIT_MS = 15 * 60_000;

/** Simulated hosts of one run of `bootproof load`, at some 250 bytes each, and its connections: an address has 28,000 ports to one server. */
export const LOAD_HOSTS_MAX = 1_000_000;
export const LOAD_CONNECTIONS_MAX = 20_000;

/** Saved views of one person, and shared by one: each stands in the bar above the list of findings. */
export const VIEWS_MAX = 100;

/** Memory of the thread in which a policy is tried, MB: a report's evidence twice, and the policy. */
export const TRIAL_HEAP_MB = 512;

/** Regular expressions of one condition that are kept compiled: those that are written out; what is made of facts comes and goes. */
export const CONDITION_PATTERNS_KEPT = 16;
