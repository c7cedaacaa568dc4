#!/bin/sh
# Makes rpm/rpmdb.sqlite and dpkg/ beside it with the real programs (README.md says which versions made what is committed).
set -eu
out=${1:?where to}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/SPECS"
cat > "$work/SPECS/tool.spec" <<'SPEC'
Name: tool
Epoch: 1
Version: 2.5
Release: 3
Summary: a package with awkward files
License: MIT
BuildArch: noarch
%description
Test data.
%package libs
Summary: shares a file with the other one
%description libs
Test data.
%prep
%build
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/usr/sbin %{buildroot}/etc/tool.d "%{buildroot}/usr/share/tool/a folder" %{buildroot}/usr/share/licenses/tool %{buildroot}/bin
echo tool > %{buildroot}/usr/bin/tool
echo admin > %{buildroot}/usr/sbin/tooladm
echo old > %{buildroot}/bin/toolsh
echo conf > %{buildroot}/etc/tool.conf
echo conf > "%{buildroot}/usr/share/tool/a folder/näme"
echo licence > %{buildroot}/usr/share/licenses/tool/COPYING
ln -s tool %{buildroot}/usr/bin/t
%files
/usr/bin/tool
/usr/bin/t
/usr/sbin/tooladm
/bin/toolsh
%config(noreplace) /etc/tool.conf
%dir /etc/tool.d
%ghost /etc/tool.d/state
"/usr/share/tool/a folder"
/usr/share/licenses/tool/COPYING
%files libs
/usr/share/licenses/tool/COPYING
SPEC
SOURCE_DATE_EPOCH=1767323045 rpmbuild --quiet --define "_topdir $work" --define '_build_id_links none' --define '_buildhost example' --define 'use_source_date_epoch_as_buildtime 1' --define 'clamp_mtime_to_source_date_epoch 1' -bb "$work/SPECS/tool.spec"
mkdir -p "$work/root/usr/lib/sysimage/rpm" "$out/rpm"
rpm --root "$work/root" --dbpath /usr/lib/sysimage/rpm --define '_db_backend sqlite' --initdb
rpm --root "$work/root" --dbpath /usr/lib/sysimage/rpm --define '_db_backend sqlite' --nodeps --justdb --noscripts --install "$work"/RPMS/noarch/*.rpm
ls -l "$work/root/usr/lib/sysimage/rpm"
rpm --root "$work/root" --dbpath /usr/lib/sysimage/rpm --define '_db_backend sqlite' -qa --qf '[%{=NEVRA}\t%{FILENAMES}\n]' | LC_ALL=C sort > "$out/rpm/owned.txt"
cp "$work/root/usr/lib/sysimage/rpm/"rpmdb.sqlite* "$out/rpm/"

mkdir -p "$work/deb/DEBIAN" "$work/deb/usr/bin" "$work/deb/etc" "$work/deb/lib/tool" "$work/droot/var/lib/dpkg/info" "$work/droot/var/lib/dpkg/updates" "$work/droot/var/lib/dpkg/triggers"
printf 'Package: tool\nVersion: 1:2.5-3\nArchitecture: all\nMulti-Arch: foreign\nMaintainer: Nobody <nobody@example.com>\nDescription: a package\n of two lines\n' > "$work/deb/DEBIAN/control"
echo /etc/tool.conf > "$work/deb/DEBIAN/conffiles"
echo tool > "$work/deb/usr/bin/tool"; echo conf > "$work/deb/etc/tool.conf"; echo x > "$work/deb/lib/tool/näme with space"
: > "$work/droot/var/lib/dpkg/status"
dpkg-deb --root-owner-group --build "$work/deb" "$work/tool.deb" > /dev/null
sed -i 's/^Package: tool/Package: libtool1/; s/: all/: amd64/; s/: foreign/: same/' "$work/deb/DEBIAN/control"; rm "$work/deb/DEBIAN/conffiles" "$work/deb/usr/bin/tool" "$work/deb/etc/tool.conf"; mkdir -p "$work/deb/usr/lib/x"; echo l > "$work/deb/usr/lib/x/libtool.so.1"; rm -r "$work/deb/lib"
dpkg-deb --root-owner-group --build "$work/deb" "$work/lib.deb" > /dev/null
dpkg --root="$work/droot" --force-architecture -i "$work/tool.deb" "$work/lib.deb" > /dev/null
mkdir -p "$out/dpkg/info"
cp "$work/droot/var/lib/dpkg/status" "$out/dpkg/"
cp "$work/droot/var/lib/dpkg/info/"*.list "$out/dpkg/info/"
