#!/usr/bin/perl
# A fault of ext4 (docs/assurance.md): ext4-orphan.pl FILE SIGNATURE NEW [ALGORITHM]
#
# Makes NEW with the content of FILE, with fs-verity enabled after an attempt that failed, while it had no name.
# SIGNATURE is one that the kernel refuses: its .fs-verity keyring lacks the certificate. Then unmount the
# filesystem, mount it again, and open NEW. ALGORITHM is the kernel's number: 1 for SHA-256, 2 for SHA-512.
use strict;
use warnings;

my ($file, $signature, $new, $algorithm) = @ARGV;
my ($dir) = $new =~ m{^(.*)/} or die "NEW must be a path\n";
sub content { open(my $in, '<:raw', $_[0]) or die "$_[0]: $!\n"; local $/; return scalar <$in> }

# struct fsverity_enable_arg, and _IOW('f', 133, of it): include/uapi/linux/fsverity.h
sub enable {
    my ($handle, $der) = @_;
    my $at = length $der ? unpack('J', pack('p', $der)) : 0;
    my $argument = pack('L4 Q L2 Q', 1, $algorithm || 1, 4096, 0, 0, length $der, 0, $at) . "\0" x 88;
    return ioctl($handle, 0x40806685, $argument);
}

# O_TMPFILE | O_RDWR
sysopen(my $out, $dir, 020200000 | 2, 0444) or die "$dir: $!\n";
my $bytes = content($file);
syswrite($out, $bytes) == length $bytes or die "$dir: $!\n";
open(my $in, '<', '/proc/self/fd/' . fileno $out) or die "$!\n";
close $out;
enable($in, content($signature)) and die "the kernel takes the signature: use one that it refuses\n";
print "as expected: $!\n";
enable($in, '') or die "fs-verity: $!\n";
# linkat(AT_FDCWD, the descriptor, AT_FDCWD, NEW, AT_SYMLINK_FOLLOW), on x86-64
my $from = '/proc/self/fd/' . fileno $in;
syscall(265, -100, $from, -100, $new, 0x400) == 0 or die "$new: $!\n";
